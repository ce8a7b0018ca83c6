"""Who a process is in its federation: key and certificate, whom it trusts, and what all have agreed to.

Read from the files of a kit; never from anything that came over the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy.certificate_authority import AUTHORITY, REVOKED
from privacy.errors import PrivacyError
from privacy.federation_manifest import FederationManifest, verify_manifest
from privacy.key_files import read_private
from privacy.secagg.identity import Signer, Trusted, node_name
from privacy.signing import Signers

MANIFEST, MANIFEST_SIGNATURE = "federation.json", "federation.sig"
NODE: Final = "node"
COORDINATOR: Final = "coordinator"


class IdentityError(PrivacyError):
    """The files that say who a process is are missing, or do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One process of a federation.

    Attributes:
        name: of the participant; empty for the coordinator.
        federation: what was agreed, its signature verified.
    """

    name: str
    signer: Signer
    trusted: Trusted
    federation: FederationManifest


def node_identity(folder: Path, now: Callable[[], float] = time.time) -> Identity:
    """Read a participant's identity from its kit; raises `IdentityError`, `CertificateError` or `ManifestError`."""
    certificate = _content(folder / f"{NODE}.pem")
    federation, trusted = _terms(folder, now)
    return Identity(
        name=node_name(certificate, federation.domain),
        signer=_signer(folder, NODE, certificate),
        trusted=trusted,
        federation=federation,
    )


def coordinator_identity(folder: Path, now: Callable[[], float] = time.time) -> Identity:
    """Read the coordinator's identity from its kit; raises as `node_identity` does."""
    federation, trusted = _terms(folder, now)
    signer = _signer(folder, COORDINATOR, _content(folder / f"{COORDINATOR}.pem"))
    return Identity(name="", signer=signer, trusted=trusted, federation=federation)


def release_signers(folder: Path) -> Signers:
    """Return whose signatures on model versions count in a kit: the coordinator's. Raises as `node_identity` does."""
    return Signers.read(_content(folder / f"{COORDINATOR}.pem"))


def _terms(folder: Path, now: Callable[[], float]) -> tuple[FederationManifest, Trusted]:
    """Return what was agreed and whose signatures count; the list of the revoked is read anew each time."""
    authority = _content(folder / AUTHORITY)
    federation = verify_manifest(
        _content(folder / MANIFEST), _content(folder / MANIFEST_SIGNATURE), authority
    )
    revoked = _content(folder / REVOKED)
    trusted = Trusted.read(authority=authority, revoked=revoked, domain=federation.domain, now=now)
    return federation, trusted


def _signer(folder: Path, name: str, certificate: bytes) -> Signer:
    key = read_private(folder / f"{name}.key")
    if key is None:
        raise IdentityError(f"{folder / name}.key is not there; a process needs its own key to take part")
    return Signer.read(certificate, key)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(
            f"{path} cannot be read ({error.strerror}); an identity takes {AUTHORITY}, {REVOKED}, {MANIFEST}, "
            f"{MANIFEST_SIGNATURE} and a certificate with its key, as a kit has them"
        ) from None
