"""The privacy plan: every release that will be made, described as data first and priced second.

One plan splits a shopper's budget over the stages before the first round. What an earlier run on the same
ledger has spent is taken off, so a second run continues the account.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from privacy.accountant import BudgetError, epsilon_of, mu_of
from privacy.distributed_noise import DELTA_SLACK


class Trust(StrEnum):
    """Who adds the noise.

    `distributed`: every participant a share, so that a cohort's sum has what `central` would add; `central`: the
    coordinator; `local`: every participant enough for itself; `none`: nobody.
    """

    DISTRIBUTED = "distributed"
    CENTRAL = "central"
    LOCAL = "local"
    NONE = "none"


class Stage(StrEnum):
    """The statistics that leave, in order; `linkage` is how many merchants a shopper buys from."""

    LINKAGE = "linkage"
    COUNTS = "counts"
    GRAM = "gram"
    SUBSPACE = "subspace"
    BASKETS = "baskets"
    GRADIENT = "gradient"
    FUSION = "fusion"


SHARES: Mapping[Stage, float] = {
    Stage.LINKAGE: 0.0091,
    Stage.COUNTS: 0.0364,
    Stage.GRAM: 0.3276,
    Stage.SUBSPACE: 0.4186,
    Stage.BASKETS: 0.06,
    Stage.GRADIENT: 0.1183,
    Stage.FUSION: 0.03,
}
"""Share of mu^2 for each stage: popularity is easy to learn, co-occurrence is where the accuracy comes from.

The first Gram finds the directions that matter; the second, inside them, says how much (docs/adr/0013). What only
single surfaces need, baskets and the fusion, costs the others a little, and nothing where it is left out
(docs/adr/0024)."""

CLIPPING_NORMS: Mapping[Stage, float] = {
    Stage.LINKAGE: math.sqrt(2.0),
    Stage.COUNTS: 1.0,
    Stage.GRAM: 1.0,
    Stage.SUBSPACE: 1.0,
    Stage.BASKETS: 1.0,
    Stage.GRADIENT: 2.0,
    Stage.FUSION: 1.0,
}
"""Longest share of one shopper: unit vectors by construction, and near the median gradient on public data.

Without one merchant's events a person moves from bin k to bin k - 1 of the linkage histogram: sqrt(2).
"""

SMALLEST_MU2 = 1e-4
"""Below this a plan is refused: the noise of its best stage would be over a hundred clipping norms."""

RAISE_EPSILON = "raise --epsilon, or wait for shoppers who have budget left"


def statistics_of(trust: Trust, *, public_basis: bool = False, baskets: bool = False) -> dict[Stage, int]:
    """Return how often each statistic is released before the gradient rounds.

    A first Gram finds the subspace that a second looks into. Where the basis is public it has nothing to find, and
    without noise it says it all.
    """
    second = public_basis or trust is not Trust.NONE
    return {
        Stage.COUNTS: 1,
        Stage.GRAM: int(not public_basis),
        Stage.SUBSPACE: int(second),
        Stage.BASKETS: int(baskets),
    }


@dataclass(frozen=True, kw_only=True)
class Release:
    """One kind of statistic that leaves `count` times.

    Attributes:
        noise_multiplier: noise std / clipping norm of each; None where no noise is added (trust `none`).
    """

    stage: Stage
    clipping_norm: float
    noise_multiplier: float | None
    count: int = 1

    @property
    def mu2_each(self) -> float:
        """Price of one of the releases."""
        return math.inf if self.noise_multiplier is None else self.noise_multiplier**-2

    @property
    def mu2(self) -> float:
        """Price of all of them together."""
        return self.count * self.mu2_each


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All releases of one run, with the budget they must stay within.

    Attributes:
        epsilon, delta: the shopper's total budget on this ledger.
        spent_mu2: what earlier runs spent of it.
    """

    trust: Trust
    epsilon: float
    delta: float
    spent_mu2: float
    releases: tuple[Release, ...]

    @property
    def cap_mu2(self) -> float:
        """The total budget in mu^2."""
        return budget_mu2(self.trust, self.epsilon, self.delta)

    @property
    def _gaussian_delta(self) -> float:
        return gaussian_delta(self.trust, self.delta)

    @property
    def mu2(self) -> float:
        """Price of this run's releases."""
        return math.fsum(release.mu2 for release in self.releases)

    def of(self, stage: Stage) -> Release:
        """Return the release of a stage."""
        return next(release for release in self.releases if release.stage is stage)

    def has(self, stage: Stage) -> bool:
        """Return whether a stage is released at all."""
        return any(release.stage is stage for release in self.releases)

    def epsilon_at_merchants(self, merchants: int, *, subspace_shared: bool = True) -> float:
        """Return epsilon for a person active at k merchants that cannot link their shoppers.

        Such a person is k units. Counts and Gram entries of different merchants lie on different coordinates, so
        their shares together have norm sqrt(k) C; gradients, baskets and the fusion share coordinates and may add up
        to k C, unless each merchant's sum has noise of its own (trust `local`). So does the Gram inside the
        subspace, unless every merchant has one of its own. The linkage histogram knows persons and counts once.
        """
        common = {
            Stage.GRADIENT,
            Stage.BASKETS,
            Stage.FUSION,
            *((Stage.SUBSPACE,) if subspace_shared else ()),
        }
        total = self.spent_mu2 * merchants**2
        for release in self.releases:
            shared = release.stage in common and self.trust is not Trust.LOCAL
            factor = 1 if release.stage is Stage.LINKAGE else merchants**2 if shared else merchants
            total += factor * release.mu2
        return self._epsilon_of(total)

    def epsilon_if_silent(self, silent: int, minimum_cohort: int) -> float:
        """Return epsilon if so many participants of this run lie and add no noise (trust `distributed`).

        The smallest cohort that is released carries the shares of K - f then, so each mu^2 is K / (K - f) times the
        stated one. The linkage histogram is noised by the simulator.
        """
        if silent >= minimum_cohort:
            return math.inf
        weaker = minimum_cohort / (minimum_cohort - silent)
        factors = ((release, 1.0 if release.stage is Stage.LINKAGE else weaker) for release in self.releases)
        return self._epsilon_of(
            self.spent_mu2 + math.fsum(factor * release.mu2 for release, factor in factors)
        )

    def total_epsilon(self) -> float:
        """Return epsilon of this run and all earlier ones at `delta`; infinite under trust `none`."""
        return self._epsilon_of(self.spent_mu2 + self.mu2)

    def _epsilon_of(self, mu2: float) -> float:
        return math.inf if math.isinf(mu2) else epsilon_of(math.sqrt(mu2), self._gaussian_delta)


def make_plan(
    *,
    trust: Trust,
    epsilon: float,
    delta: float,
    counts: Mapping[Stage, int],
    spent_mu2: float = 0.0,
    ceiling_mu2: float = math.inf,
    remedy: str = RAISE_EPSILON,
) -> Plan:
    """Return the plan that spends what is left of (epsilon, delta) over the stages.

    Args:
        counts: how often each stage is released to one shopper's cost; a stage with 0 is left out.
        spent_mu2: what the shopper with the highest account has spent already.
        ceiling_mu2: what that account may hold after this run, where later runs are to have some of the budget.
        remedy: how whoever reads an error gets a larger budget.

    Raises:
        BudgetError: epsilon, delta or a count is impossible, or nothing useful is left.
    """
    if not (math.isfinite(spent_mu2) and spent_mu2 >= 0):
        raise BudgetError(f"spent mu^2 is {spent_mu2}; it must be finite and at least 0 (see the ledger)")
    if any(count < 0 for count in counts.values()):
        raise BudgetError(f"releases per stage are {dict(counts)}; none may be negative (see --rounds)")
    left = min(budget_mu2(trust, epsilon, delta), ceiling_mu2) - spent_mu2
    if trust is not Trust.NONE and left < SMALLEST_MU2:
        raise BudgetError(f"{_exhausted(trust, epsilon, delta, spent_mu2)}; {remedy}")
    wanted = {stage: count for stage, count in counts.items() if count}
    whole = math.fsum(SHARES[stage] for stage in wanted)
    releases = tuple(
        Release(
            stage=stage,
            clipping_norm=CLIPPING_NORMS[stage],
            noise_multiplier=None
            if trust is Trust.NONE
            else math.sqrt(count * whole / (SHARES[stage] * left)),
            count=count,
        )
        for stage, count in wanted.items()
    )
    return Plan(trust=trust, epsilon=epsilon, delta=delta, spent_mu2=spent_mu2, releases=releases)


def budget_mu2(trust: Trust, epsilon: float, delta: float) -> float:
    """Return a whole budget in mu^2."""
    return mu_of(epsilon, gaussian_delta(trust, delta)) ** 2


def gaussian_delta(trust: Trust, delta: float) -> float:
    """Return the delta that is left for the Gaussian mechanism: noise on integers takes its slack off first.

    Raises:
        BudgetError: nothing is left.
    """
    if trust is not Trust.DISTRIBUTED:
        return delta
    if delta <= DELTA_SLACK:
        raise BudgetError(
            f"delta is {delta:.3g}; noise in shares takes {DELTA_SLACK:.3g} of it: state a larger delta, or use "
            "trust central"
        )
    return delta - DELTA_SLACK


def _exhausted(trust: Trust, epsilon: float, delta: float, spent_mu2: float) -> str:
    if not spent_mu2:
        return f"epsilon is {epsilon:g} at delta {delta:.3g}: too small to learn anything from"
    spent = epsilon_of(math.sqrt(spent_mu2), gaussian_delta(trust, delta))
    return (
        f"the privacy budget is used up: shoppers of this ledger have spent epsilon {spent:.4g} of {epsilon:g} "
        f"at delta {delta:.3g}"
    )
