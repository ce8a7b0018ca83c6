"""One call to a coordinator before any node starts: is it reached, is it the right one, what does it tell."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

SECONDS: Final = 5.0
PROTOCOL_HEADER: Final = "fedrank-protocol"


class NoConnection(Exception):
    """A coordinator cannot be reached or trusted.

    Attributes:
        check: what failed: name, connection, TLS or answer.
        fix: what to do.
        nobody: whether nothing listens there at all.
    """

    def __init__(self, check: str, found: str, fix: str, *, nobody: bool = False) -> None:
        """Keep what was found and what helps."""
        super().__init__(found)
        self.check, self.fix, self.nobody = check, fix, nobody


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What a coordinator told of itself.

    Attributes:
        tls: version of the protocol of the connection.
        date: its clock in Unix seconds, whole ones; None where it told none.
        protocol: version of the federation's protocol; empty where it told none.
    """

    tls: str
    date: float | None
    protocol: str


def greeting_of(host: str, port: int, authority: Path) -> Greeting:
    """Connect, check chain and host name against the authority, and ask; raises `NoConnection`."""
    with _connected(host, port) as plain, _trusted(plain, host, authority) as secured:
        call = http.client.HTTPConnection(host, port, timeout=SECONDS)
        call.sock = secured
        try:
            call.request("GET", "/v1/fleet/preflight")
            answer = call.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise NoConnection(
                "answer",
                f"{host}:{port} closes the connection ({type(error).__name__})",
                "look whether a proxy stands between, which must pass the connection on as it is",
            ) from None
        return Greeting(
            tls=secured.version() or "",
            date=_seconds(answer.headers.get("date")),
            protocol=answer.headers.get(PROTOCOL_HEADER, ""),
        )


def _connected(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), SECONDS)
    except socket.gaierror:
        raise NoConnection(
            "name",
            f"no address is known for {host}",
            f"correct the coordinator in kit.toml, or the DNS of this machine (try: getent hosts {host})",
        ) from None
    except ConnectionRefusedError:
        raise NoConnection(
            "connection",
            f"nothing listens at {host}:{port}",
            "ask the operator whether the coordinator runs and has this port",
            nobody=True,
        ) from None
    except OSError as error:
        raise NoConnection(
            "connection",
            f"{host}:{port} does not answer within {SECONDS:g} s ({type(error).__name__})",
            f"allow outgoing TCP to {host}:{port} in the firewall",
        ) from None


def _trusted(plain: socket.socket, host: str, authority: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise NoConnection(
            "TLS",
            f"the coordinator's certificate is not trusted: {error.verify_message}",
            "compare ca.pem and the coordinator of kit.toml with the operator's; if both are right, somebody stands "
            "between",
        ) from None
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or type(error).__name__
        raise NoConnection(
            "TLS",
            f"there is no TLS 1.3 at {host} ({reason})",
            "correct the port in kit.toml; a proxy between must pass TLS on as it is",
        ) from None


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
