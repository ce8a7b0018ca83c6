"""What all members of a federation agreed to, signed by its authority: no round may ask for less.

The operator signs it offline with the authority's key; it lies in every kit. A participant that holds it needs to
trust no word of the coordinator about trust, budget or the smallest cohort.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from privacy.canonical import Scalar, check_types, from_canonical, to_canonical
from privacy.certificates import read_authorities
from privacy.errors import ManifestError

LARGEST_BYTES: Final = 64 * 1024
DECLARED: Final = "shoppers/"
"""Begins the words of the settings that say how many shoppers a participant has."""
_CONTEXT: Final = b"fedrank/federation-manifest/v1\0"


@dataclass(frozen=True, kw_only=True)
class FederationManifest:
    """The terms of one federation.

    Attributes:
        federation: its name.
        domain: trust domain of the names in its certificates.
        trust: who adds the noise, a word of `privacy.plan.Trust`.
        epsilon, delta: budget of one shopper; epsilon counts for nothing under trust `none`.
        minimum_cohort: fewest participants whose sum may ever be seen.
        secure_aggregation: whether contributions leave only under masks.
        catalogue_hash: of the public items, in hexadecimal.
        shoppers, merchants: public sizes that the learner divides by.
        rounds: of gradients in one run.
        settings: the other words of a run's configuration, and `shoppers/NAME` for what each participant declares.
    """

    federation: str
    domain: str
    trust: str
    epsilon: float
    delta: float
    minimum_cohort: int
    secure_aggregation: bool
    catalogue_hash: str
    shoppers: int
    merchants: int
    rounds: int
    settings: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse terms that mean nothing; raises `ManifestError`."""
        check_types(self)
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        for name in ("federation", "domain", "trust"):
            if not getattr(self, name):
                raise ManifestError(f"the federation manifest has an empty {name}; name one")
        if not (self.epsilon > 0 and 0 < self.delta < 1):
            raise ManifestError(
                f"epsilon is {self.epsilon} and delta {self.delta}; give epsilon > 0 and 0 < delta < 1"
            )
        least = 2 if self.secure_aggregation else 1
        for name, bound in (("minimum_cohort", least), ("shoppers", 0), ("merchants", 0), ("rounds", 0)):
            if getattr(self, name) < bound:
                raise ManifestError(f"{name} is {getattr(self, name)}; it must be at least {bound}")

    @property
    def declared_shoppers(self) -> dict[str, int]:
        """Public number of shoppers of each participant that declares one; bounds what it may add to a sum."""
        named = self.settings.items()
        return {word.removeprefix(DECLARED): int(value) for word, value in named if word.startswith(DECLARED)}

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read canonical JSON of at most 64 KiB; raises `ManifestError`."""
        return from_canonical(cls, content, LARGEST_BYTES)

    def check_entropy(self, noise_seed: int) -> None:
        """Raise `ManifestError` for a task whose noise the coordinator could foresee without everybody's consent.

        Args:
            noise_seed: of the task; negative: the participant's own entropy. A simulation fixes one as the setting
                `noise-seed`; no kit does.
        """
        if noise_seed >= 0 and self.settings.get("noise-seed") != noise_seed:
            raise ManifestError(
                "the task names a seed for the participant's noise, so whoever wrote it could take the noise away; "
                "the federation agreed to no such seed"
            )

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON, in hexadecimal: the manifest's name in rounds and statuses."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def sign_manifest(manifest: FederationManifest, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the authority's signature (ECDSA with SHA-256, DER)."""
    return key.sign(_CONTEXT + manifest.to_bytes(), ec.ECDSA(SHA256()))


def verify_manifest(content: bytes, signature: bytes, authority_pem: bytes) -> FederationManifest:
    """Return the manifest whose bytes one of the authorities (PEM) has signed; raises `ManifestError` otherwise."""
    for authority in read_authorities(authority_pem):
        key = authority.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            continue
        try:
            key.verify(signature, _CONTEXT + content, ec.ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return FederationManifest.from_bytes(content)
    raise ManifestError(
        "the federation manifest is not signed by the federation's authority; take federation.json and "
        "federation.sig of one kit, as the operator has sent them"
    )
