"""Which certificates may no longer be used, from a file of revocation lists that may grow while the endpoint runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from privacy.certificates import read_revoked
from server.serving.watched import Watched

LOOK_SECONDS = 1.0
"""How long a change of the file may go unnoticed."""


class RevocationList:
    """Answers by issuer and serial number; cheap enough to be asked on every call."""

    def __init__(self, path: Path, authorities: Path, monotonic: Callable[[], float]) -> None:
        """Read the lists (PEM) in `path`, signed by certificates in `authorities`; raises `EndpointError`."""
        self._watched = Watched(
            "revocations",
            (path, authorities),
            lambda contents: read_revoked(contents[0], contents[1]),
        )
        self._monotonic = monotonic
        self._next_look = monotonic() + LOOK_SECONDS

    def __call__(self, issuer: bytes, serial: int) -> bool:
        """Whether a certificate of `issuer` (DER of its name) with this serial number is revoked."""
        now = self._monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._watched.changed()
        return (issuer, serial) in self._watched.value


def nothing_revoked(issuer: bytes, serial: int) -> bool:
    """Answer for an endpoint without a revocation list."""
    return False
