"""What goes into the ledger and what comes out of it."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from privacy.errors import InvalidCharge

CAP_TOLERANCE: Final = 1e-9
"""Sums of many mu^2 drift by some units in the last place; a cap met exactly must not be refused for that."""


class ChargeState(StrEnum):
    """How far a release has come; its budget is spent in either state."""

    RESERVED = "reserved"
    COMMITTED = "committed"


@dataclass(frozen=True, kw_only=True)
class Charge:
    """The price of one release to every shopper of its cohort, in mu^2 of Gaussian differential privacy.

    `release_id` names the release and `holder` whose accounts pay; `stage` and `round` say what it was for.
    The noise multiplier is the noise's standard deviation divided by the clipping norm (L2).
    """

    release_id: str
    holder: str
    stage: str
    round: int
    noise_multiplier: float
    clipping_norm: float
    mu2: float

    def __post_init__(self) -> None:
        """Refuse empty names and numbers that no release can have."""
        for name in ("release_id", "holder", "stage"):
            check_word(f"a charge's {name}", getattr(self, name))
        if self.round < 0:
            raise InvalidCharge(f"a charge's round is {self.round}; it must be at least 0")
        for name in ("noise_multiplier", "clipping_norm", "mu2"):
            check_amount(f"a charge's {name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ChargeRecord:
    """One charge as the ledger holds it: for which cohort, in which state, and when (ISO 8601, UTC).

    `position` counts the ledger's charges from 1.
    """

    position: int
    charge: Charge
    subjects: int
    cohort_digest: str
    state: ChargeState
    reserved_at: str
    committed_at: str | None


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What all releases of one holder may cost together, in mu^2, and what they have cost so far."""

    limit_mu2: float
    spent_mu2: float

    @property
    def left_mu2(self) -> float:
        """What further releases may cost; 0 if the quota was set below what had been spent."""
        return max(0.0, self.limit_mu2 - self.spent_mu2)


@dataclass(frozen=True, kw_only=True)
class HolderStatement:
    """The account of one holder: how many shoppers it has, the highest mu^2 that any spent, all charges in
    order, and its quota if it has one.
    """

    holder: str
    accounts: int
    highest_mu2: float
    charges: tuple[ChargeRecord, ...]
    quota: Quota | None


def check_amount(name: str, value: float) -> None:
    """Raise `InvalidCharge` unless `value` is finite and not negative."""
    if not math.isfinite(value) or value < 0:
        raise InvalidCharge(f"{name} is {value}; it must be finite and at least 0")


def check_word(name: str, text: str) -> None:
    """Raise `InvalidCharge` unless `text` has 1 to 200 printable characters."""
    if not (0 < len(text) <= 200 and text.isprintable()):
        raise InvalidCharge(f"{name} has {len(text)} characters; it needs 1..200 printable ones")
