"""Edits of a catalogue that is being served: checked against what is there now, then written to its log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from server.errors import CatalogueError
from server.serving.catalogue import read_catalogue
from server.serving.catalogue_changes import Change, ChangeLog, folded
from server.serving.catalogue_files import read_items
from server.serving.promotions import PROMOTIONS_FILE, read_promotions

CATALOGUE_FILE = "catalogue.parquet"
_NAMED = 3
"""Ids that an error names; it tells the number of the others."""


class CatalogueEdits:
    """The catalogue of one run folder, and the changes that may still be made to it."""

    def __init__(self, run: Path) -> None:
        """Read what is there; raises `CatalogueError` where the catalogue cannot be read."""
        self._run = run
        self._first = frozenset(read_catalogue(run / CATALOGUE_FILE).table["item_id"])
        self._log = ChangeLog.of(run / CATALOGUE_FILE)

    def add(self, path: Path) -> int:
        """Add the items of a parquet or CSV file; returns the number of the entry.

        Needed are `item_id` and `merchant_id`; of the other columns those of a catalogue are taken. Raises
        `CatalogueError` where the file cannot be used or an item is there already.
        """
        table = read_items(path)

        def check(last: int) -> None:
            if there := self._ids(last).intersection(table["item_id"]):
                raise CatalogueError(
                    f"{_some(there)} of {path.name} are in the catalogue already; leave them out, or remove them "
                    "first, which gives up what the model has learned of them"
                )

        return self._log.append(Change(added=table.to_dicts()), check)

    def remove(self, ids: Collection[str]) -> int:
        """Take items out; returns the number of the entry. Raises `CatalogueError` for an id that is not there."""
        return self._of_known(Change(removed=sorted(set(ids))), ids)

    def stock(self, ids: Collection[str], *, there: bool) -> int:
        """Say that items are in stock, or not; returns the number of the entry. Raises as `remove`."""
        return self._of_known(Change(stock=dict.fromkeys(ids, there)), ids)

    def promotions(self, path: Path) -> int:
        """Take a file of promotions in place of the one that counts now; returns how many are of known items.

        Raises `CatalogueError` where it cannot be read or a row contradicts itself.
        """
        found = 0
        there = self._ids(self._log.last())

        def find(ids: Collection[str]) -> npt.NDArray[np.int64]:
            nonlocal found
            known = np.array([0 if item_id in there else -1 for item_id in ids], dtype=np.int64)
            found = int(np.count_nonzero(known >= 0))
            return known

        if not path.exists():
            raise CatalogueError(f"{path} is not there; give a parquet file of promotions")
        read_promotions(path, find)
        _replace(self._run / PROMOTIONS_FILE, path.read_bytes())
        return found

    def _of_known(self, change: Change, ids: Collection[str]) -> int:
        """Write a change of items that have to be there."""

        def check(last: int) -> None:
            there = self._ids(last)
            if unknown := set(ids) - there:
                raise CatalogueError(
                    f"{_some(unknown)} are not in the catalogue of {len(there)} items; take ids from "
                    f"{CATALOGUE_FILE} or from what was added since"
                )

        return self._log.append(change, check)

    def _ids(self, last: int) -> frozenset[str]:
        """The items that are there after an entry of the log."""
        return folded(self._log.read(0, last)).ids_of(self._first)


def _some(ids: Collection[str]) -> str:
    named = ", ".join(repr(item_id) for item_id in sorted(ids)[:_NAMED])
    return named if len(ids) <= _NAMED else f"{named} and {len(ids) - _NAMED} more"


def _replace(path: Path, body: bytes) -> None:
    """Put a file in place at once."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
