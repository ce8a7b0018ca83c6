"""Which processes a merchant's kit needs: a SuperNode and an executor, which share what lies in the node's memory."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from deploy.kit import MerchantKit
from fedrank.federation.flower import LOOPBACK, environment, free_port, telling
from fedrank.federation.supervisor import Service
from privacy.key_files import create_private, open_folder, read_private

FOLDER: Final = "flower"
NODE_ID: Final = "FEDRANK_NODE_ID"
_SECRET_BYTES: Final = 32


class MerchantPlan:
    """The services of one merchant's node."""

    def __init__(self, kit: MerchantKit, *, verbose: bool) -> None:
        """Plan for a kit; makes the node's private folder and the secret that its executor shows."""
        self._kit, self._folder = kit, kit.data / FOLDER
        read_private(kit.key)  # refused here, with a reason, where others may read it
        open_folder(self._folder, create=True)
        self._secret = self._folder / "executor.secret"
        create_private(self._secret, secrets.token_bytes(_SECRET_BYTES))
        self._settings = environment(self._folder, verbose=verbose)

    def __call__(self) -> Sequence[Service]:
        """Choose a port for the two to talk, and name the services in order of start."""
        port = free_port()
        return [self._supernode(port), self._executor(port)]

    def _supernode(self, port: int) -> Service:
        kit = self._kit
        settings, ready = telling(self._folder, "supernode", self._settings)
        return Service(
            name="supernode",
            target="client.node_supernode:main",
            arguments=(
                *("--superlink", str(kit.address), "--root-certificates", str(kit.authority)),
                *("--auth-supernode-private-key", str(kit.key)),
                *("--host", LOOPBACK, "--port", str(port), "--isolation", "process"),
                *("--superexec-auth-secret-file", str(self._secret)),
                *("--node-config", _toml(kit=str(kit.folder), data=str(kit.data), merchant_id=kit.merchant)),
            ),
            ready=ready,
            shared=True,
            environment={**settings, NODE_ID: str(self._folder / "node-id")},
        )

    def _executor(self, port: int) -> Service:
        settings, ready = telling(self._folder, "executor", self._settings)
        return Service(
            name="executor",
            target="client.node_executor:main",
            arguments=("--runtime", f"{LOOPBACK}:{port}", "--secret", str(self._secret)),
            ready=ready,
            shared=True,
            environment=settings,
        )


def _toml(**words: str) -> str:
    """Node configuration in the form that Flower reads: KEY='VALUE', no quote in a value."""
    for name, value in words.items():
        if "'" in value or "\n" in value:
            raise ValueError(f"{name} is {value!r}; move the kit to a path without quotes and line breaks")
    return " ".join(f"{name.replace('_', '-')}='{value}'" for name, value in words.items())
