"""Which process a merchant's kit needs: its node."""

from __future__ import annotations

from typing import Final

from deploy.kit import MerchantKit
from fedrank.federation.flower import environment, telling
from fedrank.federation.supervisor import Service
from privacy.key_files import open_folder, read_private

FOLDER: Final = "flower"


def merchant_services(kit: MerchantKit, *, verbose: bool) -> list[Service]:
    """Name the services of a merchant's kit; makes the node's private folder.

    Raises:
        KeyringError: others may read the node's key.
    """
    read_private(kit.key)
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
