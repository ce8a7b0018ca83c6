"""What happens at a merchant's own site: its private key is made there, and what the operator sends back is checked.

A new key waits beside the kit's key until its certificate is here, so that a node goes on with the old pair so far.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.errors import KitError, KitExists, MembershipError
from deploy.kit import NEXT_KEY, REQUEST, MerchantKit, open_kit
from deploy.kit_files import write_private, write_public
from privacy.certificate_requests import make_request
from privacy.errors import CertificateError
from privacy.key_files import read_private
from privacy.secagg.identity import Signer, Trusted, node_uri, statement

LARGEST_CERTIFICATE: Final = 16 * 1024


def request(folder: Path) -> Path:
    """Make a private key and a signing request in a merchant's kit; returns the request's path.

    Raises:
        KitExists: a request is open already.
        KitError: the folder is no merchant's kit.
    """
    kit = _merchant_kit(folder)
    waiting = kit.folder / NEXT_KEY
    if waiting.exists():
        raise KitExists(
            f"{waiting} is there already: a request is open. Send {REQUEST} to the operator, or delete {NEXT_KEY} "
            "to begin anew"
        )
    text, key = make_request(f"{kit.merchant} node", node_uri(kit.federation.domain, kit.merchant))
    write_private(waiting, key)
    write_public(kit.folder / REQUEST, text)
    return kit.folder / REQUEST


def install(folder: Path, certificate: Path, now: Callable[[], float]) -> MerchantKit:
    """Put a certificate that the operator has sent into the kit, with the key it was asked for.

    Raises:
        MembershipError: no request is open.
        CertificateError: it is of another authority, name or key, has expired or is revoked; nothing changes then.
    """
    kit = _merchant_kit(folder)
    waiting = kit.folder / NEXT_KEY
    key = read_private(waiting)
    if key is None:
        raise MembershipError(
            f"there is no open request in {kit.folder}; begin with `fedrank merchant request {folder}`"
        )
    content = certificate.read_bytes()[:LARGEST_CERTIFICATE]
    _check(kit, content, key, now)
    write_private(kit.key, key)
    write_public(kit.certificate, content)
    for done in (waiting, kit.folder / REQUEST):
        done.unlink(missing_ok=True)
    return kit


def _check(kit: MerchantKit, certificate: bytes, key: bytes, now: Callable[[], float]) -> None:
    """Try the pair as a round would: sign something, and see whether others would believe it."""
    trusted = Trusted.read(
        authority=kit.authority.read_bytes(),
        revoked=kit.revoked.read_bytes(),
        domain=kit.federation.domain,
        now=now,
    )
    try:
        signer = Signer.read(certificate, key)
    except CertificateError as error:
        raise CertificateError(
            f"the certificate is not for the key that waits in {kit.folder / NEXT_KEY}; send the operator the "
            f"{REQUEST} that lies beside it, and install what comes back"
        ) from error
    message = statement("installation", kit.merchant)
    trusted.check(kit.merchant, signer.certificate, message, signer.sign(message))


def _merchant_kit(folder: Path) -> MerchantKit:
    kit = open_kit(folder, keyed=False)
    if not isinstance(kit, MerchantKit):
        raise KitError(
            f"{folder} is no merchant's kit; name the folder merchants/ID that the operator has sent"
        )
    return kit
