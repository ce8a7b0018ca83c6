"""How the client gets to an endpoint: the address, TLS, and what to do where no connection stands."""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass, field

import grpc

from client.ranking_errors import InvalidConnection

_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_HANDSHAKE = ("handshake", "verification")
"""In gRPC's words for a connection on which one side did not accept the other's certificate or protocol."""
_CLOSED = ("socket closed", "reset by peer", "end of tcp stream")
"""The same, for a connection that the endpoint closed: with TLS 1.3 it looks at the caller's certificate last."""


@dataclass(frozen=True, kw_only=True)
class ClientTls:
    """PEM contents, not paths, of what this side needs for TLS.

    Attributes:
        authority: who signed the endpoint's certificate; None: the system's authorities.
        certificate, key: this caller's certificate chain and its key, for an endpoint that wants to know who calls.
    """

    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse a certificate without its key."""
        if (self.certificate is None) != (self.key is None):
            raise InvalidConnection(
                "mutual TLS needs the client's certificate and its key; give both, or neither"
            )

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a channel; raises `InvalidConnection` where they could open none."""
        from privacy.certificates import check_pair, read_authorities
        from privacy.errors import CertificateError

        try:
            if self.certificate is not None and self.key is not None:
                check_pair(self.certificate, self.key, time.time())
        except CertificateError as error:
            raise InvalidConnection(f"this caller's certificate cannot be used: {error}") from error
        try:
            if self.authority is not None:
                read_authorities(self.authority)
        except CertificateError as error:
            raise InvalidConnection(
                "the certificate authority given holds no certificate in PEM that can be read; give the ca.pem of "
                "whoever signed the endpoint's certificate"
            ) from error
        return grpc.ssl_channel_credentials(
            root_certificates=self.authority, private_key=self.key, certificate_chain=self.certificate
        )


def is_loopback(address: str) -> bool:
    """Whether "host:port" is on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_channel(address: str, tls: ClientTls | None) -> grpc.Channel:
    """A channel to "host:port", in the clear on this machine unless `tls`; raises `InvalidConnection`."""
    _check_address(address)
    if tls is None and is_loopback(address):
        return grpc.insecure_channel(address, options=_OPTIONS)
    return grpc.secure_channel(address, (tls or ClientTls()).credentials(), options=_OPTIONS)


def unreachable(address: str, attempts: int, words: str, *, secure: bool) -> str:
    """What to tell, and to do, after the last attempt; `words` are gRPC's for it, `secure`: over TLS."""
    heard = words.lower()
    if any(sign in heard for sign in _HANDSHAKE):
        told = "TLS does not come about with the endpoint at"
        step = (
            "the certificate authority given has to be the one that signed the endpoint's certificate, and that "
            "certificate has to name this host and be valid; or the endpoint speaks no TLS"
        )
    elif any(sign in heard for sign in _CLOSED):
        told = "the connection was closed by the endpoint at"
        wanted = "a valid certificate of an authority that it knows" if secure else "TLS"
        step = (
            f"it may be stopping, or want {wanted}: give the certificate authority and this caller's own "
            "certificate and key"
        )
    else:
        told = "no ranking endpoint answers at"
        look = "host, port and certificates" if secure else "host and port"
        step = f"start one with `fedrank serve`, or check {look}"
    return f"{told} {address} ({attempts} attempts: {words}); {step}"


def _check_address(address: str) -> None:
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if found is None or not 0 < int(found[1]) <= 65535:
        raise InvalidConnection(
            f"the address of the endpoint is {address!r}; give HOST:PORT with a port of 1 to 65535, such as "
            "127.0.0.1:8443, shop.example:8443 or [::1]:8443"
        )
