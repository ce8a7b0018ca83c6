"""A federation in one process for benches and tests of secure aggregation: an authority and its members."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority, Wanted
from privacy.federation_manifest import FederationManifest
from privacy.secagg.coordinator import Aggregation
from privacy.secagg.identity import Signer, Trusted, coordinator_uri, node_uri
from privacy.secagg.manifest import RoundManifest, Unsigned, smallest_threshold
from privacy.secagg.messages import Message
from privacy.secagg.participant import Limits, Participant
from privacy.secagg.shamir import Entropy

DOMAIN: Final = "shops.example"
NOW: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class World:
    """An authority, the coordinator's key, and every member's key."""

    authority: bytes
    revoked: bytes
    coordinator: Signer
    members: Mapping[str, Signer]
    federation: FederationManifest
    clock: list[float] = field(default_factory=lambda: [NOW.timestamp()])

    @classmethod
    def make(cls, size: int, *, minimum_cohort: int = 2, prefix: str = "shop") -> Self:
        """Issue certificates for a coordinator and `size` members."""
        names = [f"{prefix}-{number:03d}" for number in range(size)]
        with TemporaryDirectory() as folder:
            authority = CertificateAuthority.make(Path(folder) / "authority", NOW)
            wanted = [Wanted(name="coordinator", uri=coordinator_uri(DOMAIN))]
            wanted += [Wanted(name=name, uri=node_uri(DOMAIN, name)) for name in names]
            issued = iter(authority.issue(wanted, NOW))
            signers = [
                Signer.read(certificate.read_bytes(), key.read_bytes())
                for certificate, key in zip(issued, issued, strict=True)
            ]
            files = {name: (authority.folder / name).read_bytes() for name in (AUTHORITY, REVOKED)}
        return cls(
            authority=files[AUTHORITY],
            revoked=files[REVOKED],
            coordinator=signers[0],
            members=dict(zip(names, signers[1:], strict=True)),
            federation=_federation(size, minimum_cohort),
        )

    @cached_property
    def trusted(self) -> Trusted:
        """Whose word counts in this federation."""
        return Trusted.read(
            authority=self.authority, revoked=self.revoked, domain=DOMAIN, now=lambda: self.clock[0]
        )

    def manifest(self, length: int = 8, **changes: Any) -> RoundManifest:
        """Return a round of all members; `changes` take the place of its words."""
        words: dict[str, Any] = {
            "federation_digest": self.federation.digest(),
            "release_id": "release-1",
            "stage": "gradient",
            "round": 1,
            "model_hash": "0" * 16,
            "trust": self.federation.trust,
            "clipping_norm": 1.0,
            "noise_multiplier": 1.0,
            "minimum_cohort": self.federation.minimum_cohort,
            "threshold": smallest_threshold(len(self.members)),
            "step": 2.0**-16,
            "modulus_bits": 32,
            "layout": (("everyone", length),),
            "cohort": tuple(sorted(self.members)),
        }
        return RoundManifest(**(words | changes))

    def participant(
        self, name: str, answered: Container[str] = (), entropy: Entropy = os.urandom
    ) -> Participant:
        """Return a member that waits for a round."""
        limits = Limits(federation=self.federation, answered=answered)
        return Participant(
            name=name, signer=self.members[name], trusted=self.trusted, limits=limits, entropy=entropy
        )

    def aggregation(self, manifest: RoundManifest) -> Aggregation:
        """Return the coordinator of a round."""
        return Aggregation(manifest=manifest, signer=self.coordinator, trusted=self.trusted)


def answers_of(participant: Participant, values: Unsigned) -> list[Callable[[Any], Message]]:
    """Return how a participant answers the question of each phase, in order."""

    def contribute(delivery: Any) -> Message:
        participant.receive(delivery)
        return participant.contribute(values)

    return [
        participant.advertise,
        participant.share,
        contribute,
        participant.confirm,
        participant.unmask,
    ]


def _federation(size: int, minimum_cohort: int) -> FederationManifest:
    return FederationManifest(
        federation="shops",
        domain=DOMAIN,
        trust="central",
        epsilon=8.0,
        delta=1e-6,
        minimum_cohort=minimum_cohort,
        secure_aggregation=True,
        catalogue_hash="0" * 64,
        shoppers=1000,
        merchants=size,
        rounds=3,
    )
