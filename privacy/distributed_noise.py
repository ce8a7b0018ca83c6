"""The noise of trust `distributed`: every participant adds a share, a cohort's sum carries what `central` would add.

Contributions are rounded to a grid and noised in whole steps of it, so that shares add up exactly, modulo 2^b too.
docs/adr/0027 has the proofs behind the numbers here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from privacy.discrete_gaussian import BASE, Words, draw, system_words
from privacy.errors import PrivacyError
from privacy.mechanism import ContributionError

FINENESS: Final = 20
"""A participant's share has a deviation of 2^20 to 2^21 steps."""

DELTA_SLACK: Final = 2.0**-40
"""What it costs in delta that noise is on integers and a sum of shares: for up to 2^30 noised entries and epsilon up
to 60 the difference to a Gaussian mechanism stays below it."""

OF_ROUNDING: Final = 1 / 12
"""Variance in steps that a rounded Gaussian has above the Gaussian: the discrete one is as private as that."""

EXACT: Final = 2.0**53
"""Whole numbers below are exact in a double."""


class Asked(Protocol):
    """What a question, or the manifest of a round, says of a release."""

    @property
    def clipping_norm(self) -> float:
        """Longest L2 norm of one shopper's share."""

    @property
    def noise_multiplier(self) -> float:
        """Of the noise that the sum carries, in clipping norms."""

    @property
    def minimum_cohort(self) -> int:
        """Fewest participants whose sum may be released."""


@dataclass(frozen=True, kw_only=True)
class NoiseShare:
    """One participant's share of the noise of a release.

    Attributes:
        clipping_norm, noise_multiplier: of the release, as trust `central` would noise it.
        minimum_cohort: as many shares are that noise; fewer are never released.
        entries: of the whole contribution, all parts together.
    """

    clipping_norm: float
    noise_multiplier: float
    minimum_cohort: int
    entries: int

    def __post_init__(self) -> None:
        """Refuse a share that protects nobody."""
        for name in ("clipping_norm", "noise_multiplier", "minimum_cohort"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise PrivacyError(
                    f"{name.replace('_', ' ')} is {value}; it must be positive and finite for a share of the noise"
                )

    @classmethod
    def of(cls, asked: Asked, entries: int) -> Self:
        """Return a participant's share of the noise of a release of so many entries."""
        return cls(
            clipping_norm=asked.clipping_norm,
            noise_multiplier=asked.noise_multiplier,
            minimum_cohort=asked.minimum_cohort,
            entries=entries,
        )

    @property
    def step(self) -> float:
        """Size of one unit: a power of two, so that sums of doubles on the grid are exact."""
        bare = self.noise_multiplier * self.clipping_norm / math.sqrt(self.minimum_cohort)
        return math.ldexp(1.0, math.frexp(bare)[1] - 1 - FINENESS)

    @property
    def sensitivity(self) -> float:
        """L2 bound on what one shopper changes: the clipping norm, and up to a step of rounding in every entry."""
        return self.clipping_norm + self.step * math.sqrt(self.entries)

    @property
    def std(self) -> float:
        """Standard deviation of the share in one entry."""
        return self.noise_multiplier * self.sensitivity / math.sqrt(self.minimum_cohort)

    @property
    def multiple(self) -> int:
        """The share's variance in steps, over that of the base of `privacy.discrete_gaussian`, rounded up."""
        return math.ceil(((self.std / self.step) ** 2 + OF_ROUNDING) / BASE**2)

    def rounded(self, total: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return a bounded sum in steps.

        Raises:
            ContributionError: it is longer than any sum of bounded shares.
        """
        steps = np.rint(total / self.step)
        if not (np.abs(steps) < EXACT / 2).all():  # a comparison with NaN is false
            raise ContributionError(
                f"a contribution holds an entry that is not finite or beyond {EXACT / 2 * self.step:.4g}, which no "
                "sum of bounded shares reaches; nothing was sent"
            )
        return steps.astype(np.int64)

    def noised(
        self, total: NDArray[np.float64], participants: int, words: Words = system_words
    ) -> NDArray[np.float64]:
        """Return a sum over `participants` on the grid, with the noise of them all drawn as one.

        Raises:
            ContributionError: nobody would add noise, or the sum is longer than any.
        """
        if participants < 1:
            raise ContributionError(
                f"noise of {participants} participants was asked for; it takes at least 1"
            )
        noise = draw(total.size, self.multiple * participants, words).reshape(total.shape)
        return np.asarray((self.rounded(total) + noise) * self.step)
