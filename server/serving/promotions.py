"""Promotions and coupons of a shop: which items have one that is valid now, and which one is best."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from proto.ranking_bounds import MAX_TIMESTAMP
from server.errors import CatalogueError

PROMOTIONS_FILE = "promotions.parquet"
SCHEMA: Mapping[str, type[pl.DataType]] = {
    "promotion_id": pl.String,
    "item_id": pl.String,
    "kind": pl.String,
    "text": pl.String,
    "discount": pl.Float64,
    "least_quantity": pl.Int64,
    "starts": pl.Int64,
    "ends": pl.Int64,
}
"""Columns of the file; all but the ids and `kind` may be null. `starts` and `ends` are Unix seconds."""
MOST_PIECES = 1_000_000
REMEMBERED = 8
"""Moments of which it is kept what is valid: callers' clocks differ, and some ask of another day."""
_NEVER = np.iinfo(np.int64).max
_ALWAYS = np.iinfo(np.int64).min

Find = Callable[[Sequence[str]], npt.NDArray[np.int64]]
"""Item ids to item indices, -1 where the catalogue lacks one."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """Something off the price of one item, or a coupon; `ends` in Unix seconds, None until withdrawn."""

    promotion_id: str
    kind: str
    text: str = ""
    discount: float | None = None
    least_quantity: int | None = None
    ends: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Valid:
    """What is valid between two moments at which some promotion starts or ends."""

    since: int
    until: int
    items: npt.NDArray[np.int64]
    """Ascending, each once."""
    rows: npt.NDArray[np.int64]
    """The row of the best promotion of each item."""


class Promotions:
    """Immutable; rows are those of the file whose item is in the catalogue."""

    def __init__(self, table: pl.DataFrame, find: Find) -> None:
        """Keep the rows of a checked table (see `SCHEMA`) whose item is known, the best of an item first.

        Best is the larger discount, then the fewer pieces to buy, then what ends sooner, then the smaller id.
        """
        items = np.asarray(find(table["item_id"].to_list()), dtype=np.int64)
        table = table.with_columns(pl.Series("item", items)).filter(pl.col("item") >= 0)
        table = table.sort(
            "item",
            pl.col("discount").fill_null(0.0),
            pl.col("least_quantity").fill_null(1),
            pl.col("ends").fill_null(_NEVER),
            "promotion_id",
            descending=[False, True, False, False, False],
        )
        self._items = table["item"].to_numpy()
        self._starts = table["starts"].fill_null(_ALWAYS).to_numpy()
        self._ends = table["ends"].fill_null(_NEVER).to_numpy()
        self._table = table
        self._looked_up: deque[_Valid] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        """How many promotions there are of items of this catalogue, valid or not."""
        return len(self._items)

    def valid_at(self, now: int) -> npt.NDArray[np.int64]:
        """Indices of the items with a promotion that is valid at `now` (starts <= now < ends), ascending."""
        return self._at(now).items

    def best(self, item: int, now: int) -> Promotion | None:
        """The best promotion of `item` that is valid at `now`, or None."""
        valid = self._at(now)
        place = int(np.searchsorted(valid.items, item))
        if place == len(valid.items) or valid.items[place] != item:
            return None
        row = self._table.row(int(valid.rows[place]), named=True)
        return Promotion(
            promotion_id=row["promotion_id"],
            kind=row["kind"],
            text=row["text"] or "",
            discount=row["discount"],
            least_quantity=row["least_quantity"],
            ends=row["ends"],
        )

    def _at(self, now: int) -> _Valid:
        """What is valid at `now`; looked for anew only between two moments that were not asked for lately."""
        for valid in self._looked_up:
            if valid.since <= now < valid.until:
                return valid
        valid = self._between(now)
        self._looked_up.appendleft(valid)
        return valid

    def _between(self, now: int) -> _Valid:
        place = int(np.searchsorted(self._changes, now, side="right"))
        holding = np.flatnonzero((self._starts <= now) & (now < self._ends))
        items, first = np.unique(self._items[holding], return_index=True)
        since, until = self._changes[place - 1], self._changes[place]
        return _Valid(since=int(since), until=int(until), items=items, rows=holding[first])

    @cached_property
    def _changes(self) -> npt.NDArray[np.int64]:
        return np.unique(np.concatenate([[_ALWAYS, _NEVER], self._starts, self._ends]))


def no_promotions() -> Promotions:
    """What a shop without promotions has."""
    return Promotions(pl.DataFrame(schema=SCHEMA), lambda ids: np.empty(0, dtype=np.int64))


def read_promotions(path: Path, find: Find) -> Promotions:
    """Read `promotions.parquet`; a file that is not there means none. Rows of unknown items are left out.

    Raises:
        CatalogueError: the file or a column cannot be read, or a row contradicts itself; names row and bound.
    """
    if not path.exists():
        return no_promotions()
    try:
        table = pl.read_parquet(path)
        missing = [name for name in SCHEMA if name not in table.columns]
        if missing:
            raise CatalogueError(f"{path} lacks the columns {', '.join(missing)}; it has {table.columns}")
        table = table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"{path} cannot be read as promotions ({type(error).__name__})") from error
    _check_rows(path, table)
    return Promotions(table, find)


def _check_rows(path: Path, table: pl.DataFrame) -> None:
    ids = pl.any_horizontal(pl.col("promotion_id", "item_id", "kind").is_null())
    rules = {
        "has no promotion_id, item_id or kind; give all three": ids,
        "has a discount outside 0 to 1; it is a share of the price": ~pl.col("discount").is_between(0, 1),
        f"has a least_quantity outside 1 to {MOST_PIECES} pieces": ~pl.col("least_quantity").is_between(
            1, MOST_PIECES
        ),
        f"has starts or ends outside 0 to {MAX_TIMESTAMP}; give Unix seconds, not milliseconds": ~pl.all_horizontal(
            pl.col("starts", "ends").fill_null(0).is_between(0, MAX_TIMESTAMP)
        ),
        "ends before it starts; give Unix seconds, ends after starts": pl.col("ends") <= pl.col("starts"),
    }
    for problem, broken in rules.items():
        rows = table.select(broken.fill_null(False).arg_true()).to_series()
        if len(rows):
            raise CatalogueError(f"{path}: row {rows[0]} {problem} ({len(rows)} such rows)")
