"""Decides on every call, before anything of it is read: who calls, whether they may, and whether they may now.

Deny by default: a caller without a certificate of the right form, of another merchant, or of a role that the table of
`authorisation.py` does not give the method to, gets nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from privacy.certificates import PeerCertificate, read_certificate
from privacy.errors import CertificateError
from server.errors import EndpointError, Forbidden, Unauthenticated
from server.serving.authorisation import ALLOWED, EVERYTHING, STREAMS
from server.serving.identity import Identity, Role, check_domain, check_merchant, read_identity
from server.serving.quotas import Account, Quota

LOCAL = "local"
"""Name of the one caller of an endpoint without TLS."""
REMEMBERED = 4096
"""Certificates whose reading is kept; beyond that they are read anew."""
TLS_1_3 = [b"TLSv1.3"]

OLD_TLS = "the connection uses a TLS version below 1.3; let the caller offer 1.3"
EXPIRED = "the client certificate has expired or is not valid yet; issue a new one"
REVOKED = "the client certificate was revoked; issue a new one, with a new key"
NO_CERTIFICATE = "the caller showed no client certificate; give one that the endpoint's authority has issued"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who made a call that was admitted. `merchant` and `role` are None for the one caller who is not checked."""

    merchant: str | None
    role: Role | None
    account: Account = field(repr=False, compare=False)

    def leave(self) -> None:
        """Say that the call has ended: once per admission."""
        self.account.leave()


class Guard(Protocol):
    """Whoever decides on calls."""

    def admit(self, context: Any, method: str) -> Caller:
        """The caller, whose call to `method` ("/package.Service/Method") is begun and counted until `leave`.

        Raises `Unauthenticated`, `Forbidden` or `QuotaExceeded`.
        """


class LocalGuard:
    """Of an endpoint without TLS, on this machine: everybody is `local` and may call what anybody may."""

    def __init__(self, quota: Quota, monotonic: Callable[[], float]) -> None:
        """Hold the one caller to `quota`."""
        self._monotonic = monotonic
        self._callers = {method: self._caller(quota, method) for method in EVERYTHING}

    def admit(self, context: Any, method: str) -> Caller:
        """As `Guard.admit`; nobody is unauthenticated."""
        caller = self._callers.get(method)
        if caller is None:
            raise Forbidden("nobody may call this method; see the roles in docs/serving-security.md")
        caller.account.enter(self._monotonic())
        return caller

    def _caller(self, quota: Quota, method: str) -> Caller:
        return Caller(merchant=None, role=None, account=_account(quota, method, LOCAL, self._monotonic()))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Whom an endpoint admits.

    Attributes:
        merchants: callers of these, and of no other.
        domain: the trust domain in the names of their certificates.
        quota: of each identity at this worker.
    """

    merchants: frozenset[str]
    domain: str
    quota: Quota

    def __post_init__(self) -> None:
        """Refuse rules that would admit nobody, or nobody that a certificate can name."""
        check_domain(self.domain)
        for merchant in self.merchants:
            check_merchant(merchant)
        if not self.merchants:
            raise EndpointError(
                "the endpoint admits callers of no merchant; serve one with --merchant, or name those of the "
                "marketplace with --admit"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peer:
    """What is remembered of a certificate; `callers`, by method, are those of all certificates of its identity."""

    certificate: PeerCertificate
    identity: Identity
    callers: dict[str, Caller]


class CertificateGuard:
    """Of an endpoint with mutual TLS: a caller is who its certificate names.

    What was read from a certificate is remembered by its bytes, never by the peer's address. Expiry and revocation
    are asked anew on every call, so that a connection does not outlive them.
    """

    def __init__(
        self,
        rules: Rules,
        is_revoked: Callable[[bytes, int], bool],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Admit by `rules`; `is_revoked` gets issuer and serial, `clock` gives Unix seconds."""
        self._rules, self._is_revoked = rules, is_revoked
        self._clock, self._monotonic = clock, monotonic
        self._peers: dict[bytes, _Peer] = {}
        self._callers: dict[Identity, dict[str, Caller]] = {}

    def admit(self, context: Any, method: str) -> Caller:
        """As `Guard.admit`."""
        connection = context.auth_context()
        shown = connection.get("x509_pem_cert")
        if not shown:
            raise Unauthenticated(NO_CERTIFICATE)
        if connection.get("ssl_tls_version") != TLS_1_3:
            raise Unauthenticated(OLD_TLS)
        peer = self._peers.get(shown[0]) or self._read(shown[0])
        certificate = peer.certificate
        if not certificate.starts <= self._clock() <= certificate.ends:
            raise Unauthenticated(EXPIRED)
        if self._is_revoked(certificate.issuer, certificate.serial):
            raise Unauthenticated(REVOKED)
        caller = peer.callers.get(method) or self._allowed(peer, method)
        caller.account.enter(self._monotonic())
        return caller

    def _read(self, pem: bytes) -> _Peer:
        try:
            certificate = read_certificate(pem)
        except CertificateError as error:
            raise Unauthenticated(f"the client certificate: {error}") from error
        identity = read_identity(certificate.uris, self._rules.domain)
        if len(self._peers) >= REMEMBERED:
            self._peers.clear()
        admitted = identity.merchant in self._rules.merchants
        callers = self._callers.setdefault(identity, {}) if admitted else {}
        self._peers[pem] = _Peer(certificate=certificate, identity=identity, callers=callers)
        return self._peers[pem]

    def _allowed(self, peer: _Peer, method: str) -> Caller:
        """One caller and account per identity and method that the rules allow: no more than they name are kept."""
        merchant, role = peer.identity.merchant, peer.identity.role
        if merchant not in self._rules.merchants:
            raise Forbidden(
                f"callers of merchant {merchant} are not admitted here; ask the endpoint of that merchant"
            )
        if method not in ALLOWED[role]:
            raise Forbidden(
                f"the role {role} may not call this method; see the roles in docs/serving-security.md"
            )
        subject = f"{role} of merchant {merchant}"
        account = _account(self._rules.quota, method, subject, self._monotonic())
        peer.callers[method] = Caller(merchant=merchant, role=role, account=account)
        return peer.callers[method]


def _account(quota: Quota, method: str, subject: str, now: float) -> Account:
    return Account(quota.of_streams() if method in STREAMS else quota, subject, now)
