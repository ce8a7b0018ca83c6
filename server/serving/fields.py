"""The field of a question: which items its surface and its filters leave to rank."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from model.features import DAY
from server.serving.items import ItemTable
from server.serving.policy import FRESH_DAYS
from server.serving.query import RankQuery, Surface
from server.serving.snapshot import Snapshot

Bools = npt.NDArray[np.bool_]

_BEFORE_MARK = re.compile(r"\s*[|>/;]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`mask` (items,) of what may be listed, servable or not; None for every item."""

    mask: Bools | None
    notices: tuple[str, ...] = ()


EVERYTHING = Field(mask=None)


def field_of(snapshot: Snapshot, query: RankQuery) -> Field:
    """The field of one question; a filter by a name that no item has leaves nothing, and says so."""
    field = _of_surface(snapshot, query)
    for name, wanted in (("categories", query.categories), ("merchant_ids", query.merchants)):
        if wanted:
            field = _within(snapshot, field, name, wanted)
    return field


def _of_surface(snapshot: Snapshot, query: RankQuery) -> Field:
    if query.surface is Surface.PROMOTION:
        return _promoted(snapshot, query.timestamp)
    if query.surface is Surface.NEW_ARRIVALS:
        return _new(snapshot, query.timestamp)
    return EVERYTHING


def _promoted(snapshot: Snapshot, now: int) -> Field:
    if len(snapshot.promotions):
        mask = np.zeros(len(snapshot.items), dtype=np.bool_)
        mask[snapshot.promotions.valid_at(now)] = True
        return _listing(mask, f"of {len(snapshot.promotions)} promotions none is valid at this moment")
    if "promotion" in snapshot.items.flags:
        return _flagged(snapshot, "promotion")
    missing = (
        "the shop has no promotions and the catalogue has no column promotion: every item was a candidate"
    )
    return Field(mask=None, notices=(missing,))


def _new(snapshot: Snapshot, now: int) -> Field:
    if "new_arrival" in snapshot.items.flags:
        return _flagged(snapshot, "new_arrival")
    listed = snapshot.items.listed_at
    if (listed >= 0).any():
        mask = (listed > now - FRESH_DAYS * DAY) & (listed <= now)
        return _listing(
            mask, f"of {len(mask)} items none was listed in the {FRESH_DAYS} days before this moment"
        )
    missing = "the catalogue has no column new_arrival and no listed_at: every item was a candidate"
    return Field(mask=None, notices=(missing,))


def _flagged(snapshot: Snapshot, name: str) -> Field:
    mask = snapshot.items.flags[name]
    return _listing(mask, f"of {len(mask)} items the shop flags none with {name}")


def _listing(mask: Bools, nothing: str) -> Field:
    """The items of a mask; where there are none, `nothing` says so."""
    return Field(mask=mask, notices=() if mask.any() else (nothing,))


def _within(snapshot: Snapshot, field: Field, name: str, wanted: Sequence[str]) -> Field:
    table, known = snapshot.items, names_of(snapshot.items)
    codes_of, codes, size = (
        (known.below, table.category_codes, len(table.categories))
        if name == "categories"
        else (known.merchants, table.merchant_codes, len(table.merchants))
    )
    chosen = [code for whole in wanted for code in codes_of.get(whole, ())]
    asked_for = np.zeros(size, dtype=np.bool_)
    asked_for[chosen] = True
    mask = asked_for[codes]
    if field.mask is not None:
        mask &= field.mask
    notices = field.notices if chosen else (*field.notices, f"no item here has any of the {name} asked for")
    return Field(mask=mask, notices=notices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a filter may name, and the codes of the items that it means.

    Attributes:
        merchants: by id, whole.
        below: by category or by the beginning of its path: `Food` means `Food > Tea` too.
    """

    merchants: Mapping[str, Sequence[int]]
    below: Mapping[str, Sequence[int]]


_named: WeakKeyDictionary[ItemTable, Names] = WeakKeyDictionary()


def names_of(table: ItemTable) -> Names:
    """The names of a table's merchants and categories; read once for each table."""
    if table not in _named:
        below: dict[str, list[int]] = {}
        for code, category in enumerate(table.categories):
            for whole in {category, *_beginnings(category)}:
                below.setdefault(whole, []).append(code)
        merchants = {name: [code] for code, name in enumerate(table.merchants)}
        _named[table] = Names(merchants=merchants, below=below)
    return _named[table]


def _beginnings(path: str) -> Iterator[str]:
    """What stands before each mark of a path, without the space that ends it."""
    return (path[: mark.start()] for mark in _BEFORE_MARK.finditer(path))
