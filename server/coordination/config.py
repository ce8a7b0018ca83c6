"""The run configuration of a federation: Flower's flat words, checked once and typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from model.encoders import EncoderName, encoder_named
from model.features import KINDS
from model.head import Basis
from model.losses import Loss
from model.schema import UserTower
from privacy.plan import Stage, Trust, statistics_of
from server.errors import ServerError

LARGEST_START = 10.0
LOCAL_STEPS = 2
"""DP-SGD steps that a participant takes per round under trust `local`."""


class ConfigError(ServerError, ValueError):
    """The run configuration lacks a word or has one out of range."""


class Participants(StrEnum):
    """Who takes part: merchants with their shoppers, shoppers' devices, or some of both."""

    MERCHANTS = "merchants"
    SHOPPERS = "shoppers"
    BOTH = "both"


class Combine(StrEnum):
    """How the sums of the buckets become one: their sum, or all participants times the median of their means."""

    SUM = "sum"
    MEDIAN = "median"


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """One run.

    Attributes:
        ledger_keys: folder of the ledger's keyring; empty: `keys` beside an SQLite ledger.
        signing_key: file of the key that signs the model version, its certificate beside it; empty: nobody signs it,
            and it is served only where unsigned versions are taken.
        offer_version: whether the nodes are given the version at the end of the run.
        shoppers: public number of shoppers N; divisors and delta come from it, never from the data.
        merchants: public number of merchants.
        minimum_cohort: fewest participants whose sum may be released.
        minimum_nodes: fewest nodes that must be connected before a round is asked; in simulation one carries many
            participants.
        journal: folder of the run's journal and status; empty: a run that dies begins anew.
        spent_mu2: what participants report to have spent on the ledger before this run.
        seed, noise_seed: for tests and simulation; a negative one means the system's entropy.
        encoder: what makes features of the public catalogue.
        basis: the axes in which histories are compared.
        recency, prior, damping: where the user tower starts, see `model.spectral.Start`.
        loss, user_tower: what the gradient rounds minimise, and how a history becomes a user vector.
        basket_kinds: event kinds that make a basket, separated by commas; empty: baskets are not asked for. A
            public fact about the shops, as is the clock; never read off their events.
        secure_aggregation: whether contributions leave under masks only.
        coordinator_identity: kit of the coordinator, whose key signs secure rounds; empty where there are none.
        runs: how many runs share the budget evenly; each takes its part of mu^2, and the last what is left.
        buckets: groups of a secure round, with a sum each.
        declared_shoppers: how many shoppers single participants have, as `NAME=NUMBER,NAME=NUMBER`; bounds what each
            may add. Of one that is not named only the federation's number is known.
        fusion: whether the weights of the surfaces' scores are learned.
        linkage: whether the noised histogram of merchants per shopper takes a share of the budget.
    """

    run_name: str
    catalogue: Path
    ledger: str
    ledger_keys: str
    registry: Path
    signing_key: str
    offer_version: bool
    checkpoints: Path
    participants: Participants
    trust: Trust
    epsilon: float
    delta: float
    runs: int
    rounds: int
    shoppers: int
    merchants: int
    minimum_cohort: int
    minimum_nodes: int
    journal: str
    dim: int
    clock: str
    spent_mu2: float
    linkage: bool
    basket_kinds: str
    fusion: bool
    loss: Loss
    user_tower: UserTower
    encoder: EncoderName
    basis: Basis
    recency: float
    prior: float
    damping: float
    seed: int
    noise_seed: int
    timeout: float
    secure_aggregation: bool
    coordinator_identity: str
    buckets: int
    combine: Combine
    declared_shoppers: str

    @classmethod
    def from_run_config(cls, words: Mapping[str, object]) -> Self:
        """Read Flower's run configuration; `ConfigError` names the word that is missing or wrong."""
        values: dict[str, Any] = {}
        for name, kind in cls.__annotations__.items():
            word = name.replace("_", "-")
            if word not in words:
                raise ConfigError(
                    f"the run configuration lacks {word!r}; pass it with --run-config '{word}=...'"
                )
            values[name] = _typed(word, words[word], kind)
        config = cls(**values)
        config._check()
        return config

    def _check(self) -> None:
        for name, low in (
            ("runs", 1),
            ("rounds", 0),
            ("shoppers", 2),
            ("merchants", 1),
            ("minimum_cohort", 1),
            ("minimum_nodes", 1),
            ("dim", 1),
            ("buckets", 1),
        ):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {low}"
                )

        self._check_baskets()
        self._check_secure()
        encoder_named(self.encoder)  # an encoder whose package is missing is refused before any charge
        for name in ("recency", "prior", "damping"):
            if not 0 <= getattr(self, name) < LARGEST_START:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; it must be 0 or more, and below {LARGEST_START:g}"
                )

    def _check_baskets(self) -> None:
        """Refuse a kind that no event has, and baskets where nobody knows what was taken together."""
        kinds = self.basket_kinds.split(",") if self.basket_kinds else []
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ConfigError(
                f"basket-kinds names {unknown[0]!r}; use some of {', '.join(KINDS)}, separated by commas, or ''"
            )
        if kinds and not self.has_clock:
            raise ConfigError(
                f"basket-kinds is {self.basket_kinds!r} and clock is {self.clock!r}: without a clock nobody knows "
                "what was taken together; leave basket-kinds empty, or give events their time"
            )

    def _check_secure(self) -> None:
        """Refuse masks that nobody signs for, and buckets where sums have no masks, or medians no noise."""
        if self.secure_aggregation and (self.minimum_nodes < 2 or not self.coordinator_identity):
            raise ConfigError(
                f"secure-aggregation is true, minimum-nodes {self.minimum_nodes} and coordinator-identity "
                f"{self.coordinator_identity!r}; it takes 2 nodes or more, and the coordinator's kit"
            )
        if not self.secure_aggregation and (self.buckets > 1 or self.combine is Combine.MEDIAN):
            raise ConfigError(
                f"buckets is {self.buckets} and combine {self.combine}; only secure-aggregation makes buckets"
            )
        if self.combine is Combine.MEDIAN and self.trust is Trust.CENTRAL:
            raise ConfigError(
                "combine is median and trust central: the sums of buckets would have no noise of their own; take "
                "trust distributed"
            )
        if any(count < 1 for count in self.declared.values()):
            raise ConfigError("declared-shoppers names a participant with none; give each at least 1")

    @property
    def declared(self) -> dict[str, int]:
        """Public numbers of shoppers by participant, where they are declared."""
        try:
            pairs = (entry.rsplit("=", 1) for entry in self.declared_shoppers.split(",") if entry)
            return {name.strip(): int(count) for name, count in pairs}
        except ValueError:
            raise ConfigError(
                f"declared-shoppers is {self.declared_shoppers[:80]!r}; write 'NAME=NUMBER,NAME=NUMBER'"
            ) from None

    @property
    def has_clock(self) -> bool:
        """Whether event times are moments of the calendar."""
        return self.clock in ("seconds", "days")

    @property
    def most_participants(self) -> int:
        """Public bound on how many take part: exact but where both kinds do, whose devices nobody counts."""
        return self.merchants if self.participants is Participants.MERCHANTS else self.shoppers

    @property
    def all_rounds(self) -> int:
        """Rounds of the whole run."""
        return self.statistics_rounds + self.rounds + int(self.fusion)

    @property
    def steps(self) -> int:
        """Local steps per round."""
        return LOCAL_STEPS if self.trust is Trust.LOCAL else 1

    @property
    def statistics_rounds(self) -> int:
        """Rounds of statistics before the gradient rounds."""
        return sum(self._statistics.values())

    @property
    def _statistics(self) -> dict[Stage, int]:
        return statistics_of(
            self.trust, public_basis=self.basis is Basis.CONTENT, baskets=bool(self.basket_kinds)
        )

    @property
    def releases(self) -> dict[Stage, int]:
        """How often each stage costs a shopper's budget."""
        return {
            Stage.LINKAGE: int(self.linkage),
            **self._statistics,
            Stage.GRADIENT: self.rounds * self.steps,
            Stage.FUSION: int(self.fusion),
        }


_KINDS: dict[str, Callable[[Any], object]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Path": Path,
    "Trust": Trust,
    "Participants": Participants,
    "Combine": Combine,
    "Loss": Loss,
    "UserTower": UserTower,
    "Basis": Basis,
    "EncoderName": EncoderName,
}


def _typed(word: str, value: object, kind: str) -> object:
    """Return a word as its declared type."""
    if kind == "bool" and not isinstance(value, bool):
        raise ConfigError(f"{word} is {value!r}; it must be true or false")
    try:
        return _KINDS[kind](value)
    except ValueError:
        raise ConfigError(f"{word} is {value!r}; it must be a {kind.lower()}") from None
