"""Certificates for the tests of the guarded endpoint, and a call's context as gRPC would give it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from privacy.certificate_authority import CertificateAuthority, Wanted
from server.serving.identity import Identity, Role

DOMAIN = "shop.example"
MERCHANT = "tea-house"


def name(merchant: str = MERCHANT, role: str = Role.STOREFRONT, domain: str = DOMAIN) -> str:
    """The URI of a caller."""
    return f"spiffe://{domain}/merchant/{merchant}/{role}"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """PEM of a certificate and its key."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, kw_only=True)
class Pki:
    """An authority that issues what a test asks for."""

    authority: CertificateAuthority

    @property
    def ca(self) -> bytes:
        """PEM of the authority."""
        return (self.authority.folder / "ca.pem").read_bytes()

    @property
    def revoked(self) -> Path:
        """The revocation list."""
        return self.authority.folder / "revoked.pem"

    def caller(self, uri: str, *, file: str = "caller", ago: timedelta = timedelta(), days: int = 1) -> Pair:
        """A caller's pair, issued some time ago."""
        wanted = Wanted(name=file, uri=uri, days=days)
        return self._pair(wanted, ago)

    def role(self, role: Role, merchant: str = MERCHANT) -> Pair:
        """The pair of a role."""
        return self.caller(Identity(merchant=merchant, role=role).uri(DOMAIN), file=f"{merchant}-{role}")

    def server(self, *hosts: str, file: str = "server") -> Pair:
        """A server's pair."""
        return self._pair(Wanted(name=file, hosts=hosts or ("127.0.0.1", "localhost"), days=1), timedelta())

    def revoke(self, pair: Pair) -> None:
        """Put a certificate on the list."""
        self.authority.revoke(pair.certificate, datetime.now(UTC))

    def _pair(self, wanted: Wanted, ago: timedelta) -> Pair:
        certificate, key = self.authority.issue([wanted], datetime.now(UTC) - ago, renew=True)
        return Pair(certificate=certificate.read_bytes(), key=key.read_bytes())


def make_pki(folder: Path) -> Pki:
    """A fresh authority in a folder."""
    return Pki(authority=CertificateAuthority.make(folder, datetime.now(UTC)))


class Call:
    """A call's context, as far as the guard looks at it."""

    def __init__(
        self, certificate: bytes | None, *, tls: bytes = b"TLSv1.3", remaining: float | None = 1.0
    ) -> None:
        """A call of whoever showed `certificate`, or none."""
        self._certificate, self._tls, self._remaining = certificate, tls, remaining

    def auth_context(self) -> dict[str, list[bytes]]:
        """What gRPC tells of the peer."""
        if self._certificate is None:
            return {}
        return {"x509_pem_cert": [self._certificate], "ssl_tls_version": [self._tls]}

    def time_remaining(self) -> float | None:
        """Seconds to the deadline."""
        return self._remaining
