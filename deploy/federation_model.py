"""The typed model of a federation, checked once. Kits, manifests and units are all rendered from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from deploy.errors import FederationFileError
from privacy.canonical import Scalar
from privacy.certificate_authority import LONGEST_DAYS
from privacy.errors import CertificateError
from privacy.plan import Trust
from privacy.secagg.identity import check_name, coordinator_uri
from privacy.secagg.manifest import LARGEST_COHORT

LARGEST_PORT: Final = 65535
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252})):(?P<port>[0-9]{1,5})",
    re.ASCII,
)
_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
"""Stands in certificates, names of folders and units, and labels of Kubernetes (at most 63 characters)."""
RESERVED: Final = frozenset({"coordinator", "devices", "everyone"})
"""Ids that mean something else in ledgers, on the wire and among the kits."""

SETTINGS: Final[Mapping[str, Scalar]] = {
    "dim": 128,
    "runs": 1,
    "minimum-nodes": 0,
    "buckets": 1,
    "seed": -1,
    "recency": 0.5,
    "prior": 0.25,
    "damping": 0.2,
    "timeout": 600.0,
    "linkage": False,
    "fusion": False,
    "clock": "seconds",
    "basket-kinds": "",
    "loss": "sampled_softmax",
    "user-tower": "pooling",
    "encoder": "hashed",
    "basis": "items",
    "combine": "sum",
}
"""Words of the run configuration that a federation may fix beyond its own, each with what it is where it does not:
the learner's as in `fedrank simulate`, `minimum-nodes` the minimum cohort, and a seed below 0 the system's entropy.

No seed of the noise is among them: whoever knows it can take the noise away."""

CALLED: Final = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
"""What people call the types of words."""


class KeysMadeBy(StrEnum):
    """Who makes a merchant's private key: the operator with the kit, or the merchant at its site (a request)."""

    OPERATOR = "operator"
    SITE = "site"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A host name or address, and a port."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str, what: str) -> Self:
        """Read "host:port", or "[address]:port" for IPv6; `FederationFileError` names `what` it was meant for."""
        match = _ADDRESS.fullmatch(text)
        number = int(match["port"]) if match else 0
        if match is None or not 0 < number <= LARGEST_PORT:
            raise FederationFileError(
                f'{what} is {text!r}; give "host:port" with a port of 1 to {LARGEST_PORT}, '
                'such as "fedrank.shops.example:9092"'
            )
        return cls(host=match["six"] or match["host"], port=number)

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Merchant:
    """One merchant of a federation.

    Attributes:
        catalogue: file of its public items, CSV or Parquet.
        shoppers: public number of its shoppers.
        keys: who makes its private key.
        serving: where its ranking endpoint will be reached, if it wants a kit for one.
    """

    id: str
    catalogue: Path
    shoppers: int
    keys: KeysMadeBy = KeysMadeBy.OPERATOR
    serving: Address | None = None


@dataclass(frozen=True, kw_only=True)
class Federation:
    """One federation.

    Attributes:
        domain: trust domain of the names in certificates.
        coordinator: where merchants reach the coordinator; they open connections to nothing else.
        epsilon, delta: what a shopper grants one run.
        minimum_cohort: fewest merchants whose sum may be released.
        certificate_days: validity of the certificates of nodes, coordinator and endpoints.
        contact: whom merchants tell when something is wrong.
        settings: further words of the run configuration, of `SETTINGS`.
    """

    name: str
    domain: str
    coordinator: Address
    merchants: tuple[Merchant, ...]
    epsilon: float
    delta: float
    rounds: int
    minimum_cohort: int
    trust: Trust = Trust.DISTRIBUTED
    secure_aggregation: bool = True
    certificate_days: int = 365
    contact: str = "the operator who sent you this folder"
    settings: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no federation can have; the message names the word and the bound."""
        for check in (self._check_names, self._check_merchants, self._check_numbers, self._check_settings):
            check()

    @property
    def shoppers(self) -> int:
        """Public number of shoppers of all merchants."""
        return sum(merchant.shoppers for merchant in self.merchants)

    def with_keys_at_site(self) -> Self:
        """The same federation, every merchant of which makes its private key itself."""
        return replace(self, merchants=tuple(replace(one, keys=KeysMadeBy.SITE) for one in self.merchants))

    def merchant(self, name: str) -> Merchant:
        """The merchant of this id; `FederationFileError` names those that there are."""
        for merchant in self.merchants:
            if merchant.id == name:
                return merchant
        known = ", ".join(merchant.id for merchant in self.merchants)
        raise FederationFileError(f"the federation {self.name!r} has no merchant {name!r}; it has {known}")

    def _check_names(self) -> None:
        try:
            coordinator_uri(self.domain)
            check_name(self.name)
        except CertificateError as error:
            raise FederationFileError(f"a name of the federation cannot be used: {error}") from error

    def _check_merchants(self) -> None:
        counted = Counter(merchant.id.casefold() for merchant in self.merchants)
        for merchant in self.merchants:
            if counted[merchant.id.casefold()] > 1:
                raise FederationFileError(
                    f"the merchant id {merchant.id!r} stands there more than once (upper and lower case are one); "
                    "give every merchant an id of its own"
                )
            if merchant.id.casefold() in RESERVED or not _ID.fullmatch(merchant.id):
                raise FederationFileError(
                    f"a merchant is called {merchant.id!r}: use 1 to 63 letters without accents, digits, dots, "
                    "dashes and underscores, a letter or digit first and last, and none of "
                    f"{', '.join(sorted(RESERVED))}"
                )
            if merchant.shoppers < 1:
                raise FederationFileError(
                    f"shoppers of merchant {merchant.id!r} is {merchant.shoppers}; it must be at least 1"
                )

    def _check_numbers(self) -> None:
        if self.trust is Trust.DISTRIBUTED and not self.secure_aggregation:
            raise FederationFileError(
                "trust is 'distributed' and secure_aggregation is false: one merchant's share of the noise would not "
                "hide its contribution; leave secure_aggregation on, or use trust 'local'"
            )
        merchants = len(self.merchants)
        most = min(merchants, LARGEST_COHORT)
        for word, value, low, high in (
            ("minimum_cohort", self.minimum_cohort, 2 if self.secure_aggregation else 1, most),
            ("rounds", self.rounds, 0, 10_000),
            ("certificate_days", self.certificate_days, 1, LONGEST_DAYS),
            ("merchants", merchants, 1, 100_000),
        ):
            if not low <= value <= high:
                bound = f" (the federation has {merchants} merchants)" if word == "minimum_cohort" else ""
                raise FederationFileError(f"{word} is {value}; it must be {low} to {high}{bound}")
        if not (self.epsilon > 0 and 0 < self.delta < 1):
            raise FederationFileError(
                f"epsilon is {self.epsilon} and delta is {self.delta}; epsilon must be above 0, delta between 0 and 1"
            )

    def _check_settings(self) -> None:
        for word, value in self.settings.items():
            if word not in SETTINGS:
                raise FederationFileError(
                    f"settings has a word {word!r}, which means nothing there; it may have {', '.join(SETTINGS)}"
                )
            if type(value) is not type(SETTINGS[word]):
                called = CALLED[type(SETTINGS[word]).__name__]
                raise FederationFileError(f"{word} of settings is {value!r}; it must be {called}")
