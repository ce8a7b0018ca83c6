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
from server.serving.catalogue import Catalogue, read_catalogue
from server.serving.catalogue_changes import ChangeLog, folded, hash_of
from server.serving.prepared import Prepared, prepared
from server.serving.prepared_snapshot import OpenBase, make_added, make_base, open_added, open_base
from server.serving.promotions import PROMOTIONS_FILE, read_promotions
from server.serving.snapshot import Snapshot

FORMAT = 4
"""Of the prepared folders; one of another format is not opened."""
FOLDER = "serving"


@dataclass(frozen=True, kw_only=True)
class State:
    """What a snapshot is made of: another state, another snapshot."""

    version: str
    catalogue: tuple[int, int]
    """Time and size of the file; zeros where there is none."""
    changes: int
    """The last entry of the log of changes."""
    promotions: tuple[int, int]
    """Time and size of the file; zeros where there is none."""


@dataclass(frozen=True, kw_only=True)
class _Catalogue:
    """A catalogue file as it was at one moment."""

    seen: tuple[int, int]
    digest: str
    items: int
    log: ChangeLog


@dataclass(frozen=True, kw_only=True)
class _Base:
    """A prepared folder that is open, and held for others that follow the same changes."""

    key: str
    held: Prepared
    open: OpenBase


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
        self._base: _Base | None = None
        self._read: _Catalogue | None = None

    def state(self) -> State:
        """What is wanted now; cheap while the catalogue file stays as it is.

        Raises `NothingPromoted` where the registry holds no promoted version, and `CatalogueError`.
        """
        version = self._pinned or self._registry.promoted()
        if version is None:
            raise NothingPromoted(
                f"the registry of {self._run} holds no promoted model version; "
                f"promote one with `fedrank promote --run {self._run} VERSION`, then serve"
            )
        catalogue = self._catalogue_now()
        return State(
            version=version,
            catalogue=catalogue.seen,
            changes=catalogue.log.last(),
            promotions=_seen(self._run / PROMOTIONS_FILE),
        )

    def snapshot(self, state: State) -> Snapshot:
        """Open the snapshot of a state, and prepare it first where nobody has; that takes seconds to minutes.

        Raises `RegistryError`, also for a version that no listed signer has signed, or `CatalogueError`, also where
        the catalogue is no more the one of `state`.
        """
        self._registry.signer(state.version)
        catalogue = self._catalogue_now()
        if catalogue.seen != state.catalogue:
            raise self._replaced()
        since = catalogue.log.base(state.changes, catalogue.items)
        digest = catalogue.log.digest(0, since)
        facts = [FORMAT, state.version, catalogue.digest, self._merchant_id, digest]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        if self._base is None or self._base.key != key:
            self._base = self._opened(key, state.version, catalogue, since)
        snapshot = self._changed(self._base, catalogue.log, since, state.changes)
        return replace(snapshot, promotions=read_promotions(self._run / PROMOTIONS_FILE, snapshot.items.find))

    def _opened(self, key: str, version: str, catalogue: _Catalogue, since: int) -> _Base:
        def make(folder: Path) -> Mapping[str, Any]:
            model = self._registry.trusted(version)
            changes = folded(catalogue.log.read(0, since))
            return make_base(folder, model, self._items(catalogue.digest), changes, self._merchant_id)

        held = prepared(self._run / FOLDER, key, make)
        return _Base(key=key, held=held, open=open_base(held.folder, held.about))

    def _changed(self, base: _Base, log: ChangeLog, since: int, last: int) -> Snapshot:
        if since == last:
            return base.open.snapshot

        def make(folder: Path) -> Mapping[str, Any]:
            changes = folded(log.read(since, last))
            return make_added(folder, base.open, changes, self._merchant_id)

        key = f"{base.key}.{log.digest(since, last)}"
        held = prepared(self._run / FOLDER, key, make)
        return open_added(held.folder, base.open)

    def _items(self, digest: str) -> Catalogue:
        """The items of the catalogue file, which has to be the one of this hash still after it was read."""
        items = read_catalogue(self._catalogue)
        if hash_of(self._catalogue) != digest:
            raise self._replaced()
        return items

    def _replaced(self) -> CatalogueError:
        return CatalogueError(
            f"{self._catalogue} was replaced while it was read; an endpoint that runs takes the new one at its next "
            "look, else start again"
        )

    def _catalogue_now(self) -> _Catalogue:
        """What the catalogue file holds; it is read again until it has not changed meanwhile."""
        while self._read is None or self._read.seen != _seen(self._catalogue):
            seen, digest = _seen(self._catalogue), hash_of(self._catalogue)
            self._read = _Catalogue(
                seen=seen,
                digest=digest,
                items=_rows(self._catalogue),
                log=ChangeLog.of(self._catalogue, digest),
            )
        return self._read


def _rows(path: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"{path} cannot be read as parquet ({type(error).__name__})") from error


def _seen(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
