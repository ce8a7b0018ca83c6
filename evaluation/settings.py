"""What a person chooses about an experiment, and how a long one tells how far it is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from evaluation.errors import SettingsError
from evaluation.protocol import Protocol
from evaluation.split import SplitKind
from model.encoders import EncoderName
from model.head import Basis
from model.losses import Loss
from model.schema import UserTower
from model.spectral import Start
from privacy.accountant import BudgetError, mu_of
from privacy.plan import Trust
from server.coordination.config import Participants
from simulation.data import Mapping
from simulation.federated import SecureAggregation

MOST_ROUNDS = 10_000
LOWEST = {
    "rounds": 0,
    "minimum_cohort": 1,
    "devices_per_message": 1,
    "dim": 1,
    "recency": 0,
    "prior": 0,
    "damping": 0,
    "seed": 0,
    "noise_seed": 0,
}
SMALLEST_COHORT = 5
"""Minimum cohort where none is given and nothing else depends on it."""
COHORT_PART = 0.8
"""Minimum cohort of trust `distributed` where none is given, of those who take part."""
ANY_DELTA = 1e-5
"""Stands in for a delta that is not known before the data are read; only epsilon is checked with it."""


class Surfaces(StrEnum):
    """What a run learns: what home needs; baskets too, for cart and detail; or also the fusion of every surface."""

    HOME = "home"
    BASKETS = "baskets"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings:
    """One `fedrank simulate`.

    Attributes:
        data: folder or file of events; None for the embedded set.
        out: run folder; its keys and ledger are kept from run to run.
        ledger: SQLite path or database URL; None for `ledger.db` in the run folder.
        delta: None for 1 / N^1.1.
        noise_seed: repeatable noise; None takes the operating system's entropy.
        minimum_cohort: None for a part of those who take part under trust `distributed` (`cohort_of`), else for 5.
        curve: further values of epsilon to simulate for the chart of utility against epsilon.
        devices_per_message: how many devices one Flower message serves.
    """

    data: Path | None
    mapping: Mapping | None
    out: Path
    ledger: str | None
    participants: Participants
    trust: Trust
    epsilon: float
    delta: float | None
    rounds: int
    seed: int
    noise_seed: int | None
    split: SplitKind | None
    protocol: Protocol
    minimum_cohort: int | None
    curve: tuple[float, ...]
    devices_per_message: int
    dim: int
    loss: Loss = Loss.SAMPLED_SOFTMAX
    user_tower: UserTower = UserTower.POOLING
    encoder: EncoderName = EncoderName.HASHED
    basis: Basis = Basis.ITEMS
    recency: float = Start.recency
    prior: float = Start.prior
    damping: float = Start.damping
    surfaces: Surfaces = Surfaces.BASKETS
    secure_aggregation: SecureAggregation = SecureAggregation.IDEAL

    def __post_init__(self) -> None:
        """Refuse an impossible budget or size before any data are read.

        Raises:
            SettingsError: names the value and its bound.
        """
        try:
            mu_of(self.epsilon, ANY_DELTA if self.delta is None else self.delta)
        except BudgetError as error:
            raise SettingsError(str(error)) from None
        if self.rounds > MOST_ROUNDS:
            raise SettingsError(f"rounds is {self.rounds}; it must be at most {MOST_ROUNDS}")
        for name, low in LOWEST.items():
            if (getattr(self, name) if getattr(self, name) is not None else low) < low:
                raise SettingsError(
                    f"{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {low}"
                )

    @property
    def ledger_url(self) -> str:
        """Where the shoppers' accounts are."""
        return self.ledger or str(self.out / "ledger.db")

    def cohort_of(self, participants: int) -> int:
        """Return the minimum cohort where so many take part.

        Under trust `distributed` the noise is calibrated for it: each participant more makes the sum noisier, and
        each that may drop out needs the others' shares to be larger.
        """
        if self.minimum_cohort is not None:
            return self.minimum_cohort
        return math.ceil(COHORT_PART * participants) if self.trust is Trust.DISTRIBUTED else SMALLEST_COHORT

    def described(self) -> dict[str, Any]:
        """Return the settings that shape the result, as plain words for the report; no paths."""
        return {
            "participants": str(self.participants),
            "trust": str(self.trust),
            "epsilon": self.epsilon,
            "rounds": self.rounds,
            "seed": self.seed,
            "noise_seed": self.noise_seed,
            "protocol": str(self.protocol),
            "dim": self.dim,
            "loss": str(self.loss),
            "user_tower": str(self.user_tower),
            "encoder": str(self.encoder),
            "basis": str(self.basis),
            "recency": self.recency,
            "prior": self.prior,
            "damping": self.damping,
            "surfaces": str(self.surfaces),
            "secure_aggregation": str(self.secure_aggregation),
        }


def config_hash(config: dict[str, Any]) -> str:
    """Return a short hash of the described settings."""
    text = json.dumps(config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Watch:
    """Callbacks for progress: `begin(stage, steps)` and `step()`."""

    begin: Callable[[str, int], None] = lambda _stage, _steps: None
    step: Callable[[], None] = lambda: None
