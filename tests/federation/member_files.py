"""A folder of members as a coordinator's kit has one, with an authority that can issue and revoke."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority, Wanted
from privacy.member_certificates import FORMER
from privacy.secagg.identity import node_uri
from server.coordination.members import MemberFiles, Members

DOMAIN = "shops.example"
DAYS = 30


@dataclass
class Times:
    """Two clocks that a test moves."""

    wall: float
    monotonic: float = 0.0

    def later(self, seconds: float) -> None:
        """Move both."""
        self.wall += seconds
        self.monotonic += seconds


class Fellowship:
    """An authority and the members that it has issued certificates to."""

    def __init__(self, folder: Path) -> None:
        """Make the authority, with nobody in it."""
        self.now = datetime.now(UTC)
        self.times = Times(self.now.timestamp())
        self.authority = CertificateAuthority.make(folder / "authority", self.now)
        self.files = MemberFiles(
            members=folder / "members",
            authority=self.authority.folder / AUTHORITY,
            revoked=self.authority.folder / REVOKED,
        )
        self.files.members.mkdir()
        self._number = 0

    def admit(self, merchant: str, *, named: str | None = None) -> ec.EllipticCurvePrivateKey:
        """Issue a certificate with a fresh key, put it into the folder, and return the key."""
        self._number += 1
        wanted = Wanted(name=f"pair-{self._number}", uri=node_uri(DOMAIN, named or merchant), days=DAYS)
        certificate, private = self.authority.issue([wanted], self.now)
        (self.files.members / f"{merchant}.pem").write_bytes(certificate.read_bytes())
        key = load_pem_private_key(private.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def revoke(self, merchant: str) -> None:
        """Put a member's certificate on the revocation list."""
        self.authority.revoke((self.files.members / f"{merchant}.pem").read_bytes(), self.now)

    def strike_off(self, merchant: str, *, revoke: bool = True) -> None:
        """Take a member out as `fedrank merchant revoke` does: its file becomes one of the former ones."""
        path = self.files.members / f"{merchant}.pem"
        if revoke:
            self.revoke(merchant)
        path.rename(self.files.members / f"{FORMER}.pem")

    def members(self) -> Members:
        """The members as the coordinator reads them."""
        return Members(self.files, DOMAIN, lambda: self.times.wall, lambda: self.times.monotonic)


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as a node shows it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """A node's signature."""
    return key.sign(message, ec.ECDSA(SHA256()))


AFTER_THE_END = timedelta(days=DAYS + 1).total_seconds()
