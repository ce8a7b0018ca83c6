"""Where snapshots come from: the promoted version, the catalogue and its changes, over folders that workers share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from server.errors import CatalogueError, NothingPromoted
from server.registry import Registry
from server.serving.catalogue import read_catalogue
from server.serving.catalogue_changes import ChangeLog, folded
from server.serving.prepared import prepared
from server.serving.prepared_snapshot import make_added, make_base, open_added, open_base
from server.serving.promotions import PROMOTIONS_FILE, read_promotions
from server.serving.snapshot import Snapshot

FORMAT = 2
"""Of the prepared folders; one of another format is not opened."""
FOLDER = "serving"


@dataclass(frozen=True, kw_only=True)
class State:
    """What a snapshot is made of: another state, another snapshot."""

    version: str
    changes: int
    """The last entry of the log of changes."""
    promotions: tuple[int, int]
    """Time and size of the file of promotions; zeros where there is none."""


@dataclass(frozen=True, kw_only=True)
class _Base:
    """A prepared folder that is open."""

    key: str
    folder: Path
    snapshot: Snapshot


class SnapshotSource:
    """Makes and opens the snapshots of one run folder, or of one merchant's part of it. For one thread at a time."""

    def __init__(
        self,
        registry: Registry,
        catalogue_path: Path,
        *,
        merchant_id: str | None = None,
        version: str | None = None,
    ) -> None:
        """Follow the promoted version, or stay with the one given. Nothing is read yet."""
        self._registry = registry
        self._catalogue = catalogue_path
        self._run = catalogue_path.parent
        self._merchant_id = merchant_id
        self._pinned = version
        self._log = ChangeLog(self._run)
        self._base: _Base | None = None

    def state(self) -> State:
        """What is wanted now; cheap. Raises `NothingPromoted` where the registry holds no promoted version."""
        version = self._pinned or self._registry.promoted()
        if version is None:
            raise NothingPromoted("the registry holds no promoted model version; promote one, then serve")
        return State(version=version, changes=self._log.last(), promotions=self._promotions())

    def snapshot(self, state: State) -> Snapshot:
        """Open the snapshot of a state, and prepare it first where nobody has; that takes seconds to minutes.

        Raises `RegistryError` or `CatalogueError`.
        """
        catalogue_hash, items = self._catalogue_facts()
        since = self._log.base(state.changes, items)
        facts = [FORMAT, state.version, catalogue_hash, self._merchant_id, self._log.digest(0, since)]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        if self._base is None or self._base.key != key:
            self._base = self._opened(key, state.version, since)
        snapshot = self._changed(self._base, since, state.changes)
        return replace(snapshot, promotions=read_promotions(self._run / PROMOTIONS_FILE, snapshot.items.find))

    def _opened(self, key: str, version: str, since: int) -> _Base:
        def make(folder: Path) -> Mapping[str, Any]:
            model = self._registry.get(version)
            changes = folded(self._log.read(0, since))
            return make_base(folder, model, read_catalogue(self._catalogue), changes, self._merchant_id)

        folder, about = prepared(self._run / FOLDER, key, make)
        return _Base(key=key, folder=folder, snapshot=open_base(folder, about))

    def _changed(self, base: _Base, since: int, last: int) -> Snapshot:
        if since == last:
            return base.snapshot

        def make(folder: Path) -> Mapping[str, Any]:
            changes = folded(self._log.read(since, last))
            return make_added(folder, base.folder, base.snapshot, changes, self._merchant_id)

        key = f"{base.key}.{self._log.digest(since, last)}"
        folder, _ = prepared(self._run / FOLDER, key, make)
        return open_added(folder, base.folder, base.snapshot)

    def _catalogue_facts(self) -> tuple[str, int]:
        """Hash and number of rows of the catalogue file."""
        try:
            with self._catalogue.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return digest, pl.scan_parquet(self._catalogue).select(pl.len()).collect().item()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CatalogueError(
                f"{self._catalogue} cannot be read as parquet ({type(error).__name__})"
            ) from error

    def _promotions(self) -> tuple[int, int]:
        try:
            found = (self._run / PROMOTIONS_FILE).stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_mtime_ns, found.st_size
