"""Where the coordinator's Flower processes keep what they share: one private folder inside a kit's data folder.

Flower keeps the arrays of messages in `superlink.db`, in the clear, so the folder has mode 0700; put it on a memory
file system or an encrypted disk.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from privacy.key_files import create_private, open_folder
from server.errors import ServerError

FOLDER: Final = "flower"
_SECRET_BYTES: Final = 32


class SuperLinkError(ServerError):
    """The coordinator's SuperLink is not running, or refuses what was asked."""


@dataclass(frozen=True, kw_only=True)
class SuperLinkFiles:
    """The files of one coordinator's SuperLink."""

    folder: Path

    @classmethod
    def of(cls, data: Path) -> Self:
        """Name the files inside a kit's data folder; nothing is made."""
        return cls(folder=data / FOLDER)

    @classmethod
    def make(cls, data: Path) -> Self:
        """Make the folder, and the secret that executors show, where they are missing."""
        files = cls.of(data)
        open_folder(files.folder, create=True)
        open_folder(files.runs, create=True)
        create_private(files.secret, secrets.token_bytes(_SECRET_BYTES))
        return files

    @property
    def database(self) -> Path:
        """Flower's own state: nodes, runs, messages."""
        return self.folder / "superlink.db"

    @property
    def secret(self) -> Path:
        """Shown by executors that ask for work."""
        return self.folder / "executor.secret"

    @property
    def authority(self) -> Path:
        """Folder of the certificate authority of the loopback connection, remade at every start."""
        return self.folder / "loopback"

    @property
    def runs(self) -> Path:
        """Configurations of submitted runs: they never travel with the bundle."""
        return self.folder / "runs"

    @property
    def endpoint(self) -> Path:
        """Where the SuperLink listens now."""
        return self.folder / "endpoint.json"

    def address(self) -> str:
        """The running SuperLink's `127.0.0.1:PORT`.

        Raises:
            SuperLinkError: no coordinator has been started with this data folder.
        """
        try:
            found: dict[str, Any] = json.loads(self.endpoint.read_bytes())
            return f"127.0.0.1:{int(found['port'])}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SuperLinkError(
                f"{self.folder} names no running SuperLink; start one with `fedrank coordinator start KIT`"
            ) from error
