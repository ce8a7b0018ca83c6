"""Which process a merchant's kit needs: its node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from deploy.kit import MerchantKit
from fedrank.federation.flower import environment, telling
from fedrank.federation.supervisor import Service
from privacy.certificates import check_pair
from privacy.errors import CertificateError
from privacy.key_files import open_folder, read_private

FOLDER: Final = "flower"


def merchant_services(
    kit: MerchantKit, *, verbose: bool, now: Callable[[], float] = time.time
) -> list[Service]:
    """Name the services of a merchant's kit; makes the node's private folder.

    Raises:
        KeyringError: others may read the node's key.
        CertificateError: key and certificate are no pair, or the certificate is not valid now.
    """
    _check_pair(kit, now())
    folder = kit.data / FOLDER
    open_folder(folder, create=True)
    settings, ready = telling(folder, "node", environment(folder, verbose=verbose))
    node = Service(
        name="node",
        target="client.node:main",
        arguments=(
            *("--coordinator", str(kit.address), "--authority", str(kit.authority), "--key", str(kit.key)),
            *("--kit", str(kit.folder), "--data", str(kit.data), "--merchant", kit.merchant),
        ),
        ready=ready,
        environment=settings,
    )
    return [node]


def _check_pair(kit: MerchantKit, now: float) -> None:
    """Refuse here what a node could only be turned away with, again and again."""
    try:
        check_pair(kit.certificate.read_bytes(), read_private(kit.key) or b"", now)
    except CertificateError as error:
        raise CertificateError(
            f"the node of {kit.folder} would be turned away with {kit.certificate.name} and {kit.key.name}: {error}. "
            "Compare this machine's clock; ask the operator for a new pair (fedrank merchant rotate), or make a key "
            "here (fedrank merchant request)"
        ) from None
