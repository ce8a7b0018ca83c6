"""Where the kits of one federation lie below one folder, and how their files are written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from privacy import key_files


@dataclass(frozen=True, kw_only=True)
class Kits:
    """The folder that `fedrank provision` wrote. Each part goes to somebody else; `authority` stays offline."""

    root: Path

    @property
    def authority(self) -> Path:
        """The federation's authority, the model of the federation and the members' certificates."""
        return self.root / "authority"

    @property
    def coordinator(self) -> Path:
        """The coordinator's kit."""
        return self.root / "coordinator"

    def merchant(self, name: str) -> Path:
        """The kit of a merchant's node."""
        return self.root / "merchants" / name

    def serving(self, name: str) -> Path:
        """The kit of a merchant's ranking endpoint."""
        return self.root / "serving" / name

    def callers(self, name: str) -> Path:
        """The authority of those who may call a merchant's ranking endpoint."""
        return self.root / "callers" / name

    def all(self) -> list[Path]:
        """Every kit that is there."""
        found = [self.coordinator, *self.root.glob("merchants/*"), *self.root.glob("serving/*")]
        return sorted(folder for folder in found if folder.is_dir())


def write_public(path: Path, content: bytes) -> None:
    """Write or replace a file that holds no secret, whole and durably; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    key_files.flush_folder(path.parent)


def write_private(path: Path, content: bytes) -> None:
    """Write or replace a private key: mode 0600, whole; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key_files.write_private(path, content)
