"""The coordinator's account: reserve, then draw noise, then commit; what is reserved is spent for good."""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.catalogue import PublicItems
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge
from privacy.mechanism import GaussianSum, Mechanism, NoiseSource, SeededNoise, SystemNoise, UnprotectedSum
from privacy.plan import RAISE_EPSILON, Plan, Stage, Trust, budget_mu2, make_plan
from proto.federation import Task
from server.coordination.buckets import MEDIAN_SPREAD
from server.coordination.config import Combine, FederationConfig, Participants

HOLDER = "federation"

NEW_AGREEMENT = (
    "more takes a new agreement of all members: provision kits from a federation.toml with a larger epsilon, move "
    "each data folder into its new kit; its setting `runs` splits the budget over so many runs"
)

SHARED_BY_MERCHANTS = (Stage.BASKETS, Stage.FUSION)
"""Statistics of which every merchant covers every entry, also where merchants are alone."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """One federation's account in the ledger; `subject` names its catalogue and kind of participants."""

    ledger: Ledger
    subject: str

    def spent_mu2(self) -> float:
        """Return what this federation has released so far."""
        return self.ledger.spent(HOLDER, [self.subject])

    def reserve(self, task: Task) -> None:
        """Spend the price of one round durably, before any noise is drawn; trust `none` charges nothing."""
        if task.trust == Trust.NONE:
            return
        charge = Charge(
            release_id=task.release_id,
            holder=HOLDER,
            stage=task.stage,
            round=task.round,
            noise_multiplier=task.noise_multiplier,
            clipping_norm=task.clipping_norm,
            mu2=task.mu2,
        )
        self.ledger.reserve(charge, [self.subject], task.cap_mu2)

    def commit(self, task: Task) -> None:
        """Note that the release has left."""
        if task.trust != Trust.NONE:
            self.ledger.commit(task.release_id, HOLDER)


def open_account(config: FederationConfig, catalogue: PublicItems) -> Account:
    """Open the account of the federation over this catalogue with this kind of participants."""
    name = "\n".join((config.participants, *catalogue.item_ids))
    subject = hashlib.sha256(name.encode()).hexdigest()[:32]
    return Account(ledger=ledger_at(config.ledger, config.ledger_keys), subject=subject)


def plan_of(config: FederationConfig, account: Account) -> Plan:
    """Return the plan for what is left of the budget after this federation's and its participants' spending."""
    spent = max(account.spent_mu2(), config.spent_mu2)
    return make_plan(
        trust=config.trust,
        epsilon=config.epsilon,
        delta=config.delta,
        counts=config.releases,
        spent_mu2=0.0 if config.trust is Trust.NONE else spent,
        ceiling_mu2=ceiling_of(config, spent),
        remedy=remedy_of(config),
    )


def ceiling_of(config: FederationConfig, spent_mu2: float) -> float:
    """Return what an account that held `spent_mu2` before a run may hold after it: its even part is added."""
    return spent_mu2 + budget_mu2(config.trust, config.epsilon, config.delta) / config.runs


def remedy_of(config: FederationConfig) -> str:
    """Return how a run gets a larger budget: a federation of processes, which keeps a journal, has to agree on it."""
    return NEW_AGREEMENT if config.journal else RAISE_EPSILON


class Releaser:
    """How sums leave: noised here under trust `central`; else the participants have done it, or nobody does."""

    def __init__(self, config: FederationConfig, plan: Plan) -> None:
        """Draw from the system's entropy unless a simulation passed a seed."""
        self._config, self._plan = config, plan
        seeded = config.noise_seed >= 0
        self._source: NoiseSource = SeededNoise(config.noise_seed) if seeded else SystemNoise()

    def under(self, plan: Plan) -> Self:
        """Return the same under another plan: it draws on from the same source."""
        other = copy(self)
        other._plan = plan
        return other

    def released(self, stage: Stage, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a sum as it may leave."""
        return self.mechanism(stage).release(total) if self._plan.trust is Trust.CENTRAL else total

    def mechanism(self, stage: Stage) -> Mechanism:
        """Return the mechanism of one stage."""
        release = self._plan.of(stage)
        if release.noise_multiplier is None:
            return UnprotectedSum(clipping_norm=release.clipping_norm)
        return GaussianSum(
            clipping_norm=release.clipping_norm, noise_multiplier=release.noise_multiplier, noise=self._source
        )

    def noise_std(self, stage: Stage) -> float:
        """Return the standard deviation in one entry of what is released, noise of all participants together."""
        of_sum = self._noise_std_of_sum(stage)
        return of_sum * MEDIAN_SPREAD if self._config.combine is Combine.MEDIAN else of_sum

    def _noise_std_of_sum(self, stage: Stage) -> float:
        std = self.mechanism(stage).noise_std
        if self._plan.trust is Trust.DISTRIBUTED:
            return std * float(np.sqrt(self._config.most_participants / self._config.minimum_cohort))
        if self._plan.trust is not Trust.LOCAL:
            return std
        if self._config.participants is not Participants.MERCHANTS:
            return std * float(np.sqrt(self._config.shoppers))
        if stage in SHARED_BY_MERCHANTS:
            return std * float(np.sqrt(self._config.merchants))
        return std  # every entry belongs to one merchant, so one participant's noise lies on it
