"""What changed in a catalogue since it was written: a log of small files beside it, which endpoints follow.

Change n of a catalogue is the file `catalogue-changes/<hash of the catalogue>/<n>.json`; it is written whole or not
at all, and never again changed. A new training brings a new catalogue, whose log is empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from server.errors import CatalogueError

FOLDER = "catalogue-changes"
FEW = 1_000
_SHARE = 20
_DIGITS = 8
COLUMNS: dict[str, type[pl.DataType]] = {
    "item_id": pl.String,
    "title": pl.String,
    "category": pl.String,
    "brand": pl.String,
    "description": pl.String,
    "merchant_id": pl.String,
    "price": pl.Float64,
    "listed_at": pl.Int64,
    "new_arrival": pl.Boolean,
    "promotion": pl.Boolean,
    "in_stock": pl.Boolean,
    "hidden": pl.Boolean,
}
"""Columns of an added item; absent ones are null."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One entry of the log: items that came, went, or are in stock or not from now on."""

    added: Sequence[Mapping[str, Any]] = ()
    removed: Sequence[str] = ()
    stock: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an entry that changes nothing."""
        if not (self.added or self.removed or self.stock):
            raise CatalogueError("the change names no item; name at least one")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Several entries together, as they stand after the last.

    Attributes:
        added: every item that came and did not go again, in that order, with its stock; one row per id.
        removed: ids of older items that went, or in whose place another one came.
        stock: id of an older item -> whether it is in stock.
    """

    added: pl.DataFrame
    removed: frozenset[str]
    stock: Mapping[str, bool]

    def applied(self, table: pl.DataFrame) -> pl.DataFrame:
        """A catalogue table with these changes: without what went; what came stands at its end."""
        if "in_stock" not in table.columns:
            table = table.with_columns(pl.lit(None, dtype=pl.Boolean).alias("in_stock"))
        stock = zip(table["item_id"], table["in_stock"], strict=True)
        now = [self.stock.get(item_id, before) for item_id, before in stock]
        table = table.with_columns(pl.Series("in_stock", now, dtype=pl.Boolean))
        kept = table.filter(~pl.col("item_id").is_in(sorted(self.removed)))
        told = [name for name in COLUMNS if name in table.columns or self.added[name].count()]
        return pl.concat([kept, self.added.select(told)], how="diagonal_relaxed")

    def ids_of(self, before: Iterable[str]) -> frozenset[str]:
        """Which items are there, of a catalogue that had those `before`."""
        return frozenset(before) - self.removed | frozenset(self.added["item_id"])


def folded(changes: Sequence[Change]) -> Changes:
    """What a run of entries amounts to. An item that comes although it is there takes the place of the older one."""
    rows: dict[str, dict[str, Any]] = {}
    removed: set[str] = set()
    stock: dict[str, bool] = {}
    for change in changes:
        for item_id in (*change.removed, *(row["item_id"] for row in change.added)):
            if rows.pop(item_id, None) is None:
                removed.add(item_id)
        for row in change.added:
            rows[row["item_id"]] = {name: row.get(name) for name in COLUMNS}
        for item_id, is_there in change.stock.items():
            if item_id in rows:
                rows[item_id]["in_stock"] = is_there
            else:
                stock[item_id] = is_there
    added = pl.DataFrame(list(rows.values()), schema=COLUMNS)
    return Changes(added=added, removed=frozenset(removed), stock=stock)


def few_of(items: int) -> int:
    """How many items may change before the prepared folder is made anew; a twentieth of a large catalogue."""
    return max(FEW, items // _SHARE)


def hash_of(catalogue: Path) -> str:
    """SHA-256 of a catalogue file; raises `CatalogueError` where it cannot be read."""
    try:
        with catalogue.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CatalogueError(
            f"{catalogue} cannot be read ({type(error).__name__}); give a run folder"
        ) from error


class ChangeLog:
    """The log of one catalogue. Several processes may read and append at the same time."""

    def __init__(self, folder: Path) -> None:
        """Use the log in this folder, which is made at the first `append`."""
        self._folder = folder

    @classmethod
    def of(cls, catalogue: Path, digest: str = "") -> ChangeLog:
        """The log beside a catalogue file, of this hash where that is known already.

        Raises `CatalogueError` where the file cannot be read.
        """
        return cls(catalogue.parent / FOLDER / (digest or hash_of(catalogue))[:16])

    def last(self) -> int:
        """The number of the newest entry, 0 before the first; cheap."""
        try:
            return max(
                (int(path.stem) for path in self._folder.iterdir() if path.suffix == ".json"), default=0
            )
        except FileNotFoundError:
            return 0

    def read(self, after: int, last: int) -> list[Change]:
        """The entries `after` + 1 to `last`; raises `CatalogueError` where one is missing or damaged."""
        return [self._read(number) for number in range(after + 1, last + 1)]

    def digest(self, after: int, last: int) -> str:
        """What the entries `after` + 1 to `last` are known by."""
        digest = hashlib.sha256()
        for number in range(after + 1, last + 1):
            digest.update(self._bytes(number))
        return digest.hexdigest()[:16]

    def append(self, change: Change, check: Callable[[int], None] = lambda last: None) -> int:
        """Add an entry and return its number; endpoints that follow this folder take it within seconds.

        `check` is told which entry the new one would follow, and raises where it may not: nothing is written then.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        body = json.dumps({"added": change.added, "removed": change.removed, "stock": change.stock})
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        try:
            return self._claim(Path(name), check)
        finally:
            Path(name).unlink()

    def base(self, last: int, items: int) -> int:
        """After which entry, of those up to `last`, the prepared folder of a catalogue of `items` was made anew.

        It depends on the log alone, so that all who read it agree.
        """
        number, waiting = 0, 0
        for at, change in enumerate(self.read(0, last), start=1):
            waiting += len(change.added) + len(change.removed) + len(change.stock)
            if waiting > few_of(items):
                number, waiting = at, 0
        return number

    def _claim(self, written: Path, check: Callable[[int], None]) -> int:
        """Give the next free number to a written file: linking fails where another process was faster."""
        while True:
            last = self.last()
            check(last)
            try:
                os.link(written, self._path(last + 1))
            except FileExistsError:
                continue
            return last + 1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:0{_DIGITS}}.json"

    def _read(self, number: int) -> Change:
        try:
            entry = json.loads(self._bytes(number))
            return Change(added=entry["added"], removed=entry["removed"], stock=entry["stock"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(number, error) from error

    def _bytes(self, number: int) -> bytes:
        try:
            return self._path(number).read_bytes()
        except OSError as error:
            raise self._damaged(number, error) from error

    def _damaged(self, number: int, error: Exception) -> CatalogueError:
        return CatalogueError(
            f"{self._path(number)} cannot be read as a change of the catalogue ({type(error).__name__}); restore the "
            f"file, or delete {self._folder} and give the changes again"
        )
