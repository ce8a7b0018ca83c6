"""The field of a question: which items its surface and its filters leave to rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.features import DAY
from server.serving.policy import FRESH_DAYS
from server.serving.query import RankQuery, Surface
from server.serving.snapshot import Snapshot

Bools = npt.NDArray[np.bool_]

_PATH_MARKS = ("|", ">", "/", ";")


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
        return Field(mask=mask)
    if "promotion" in snapshot.items.flags:
        return Field(mask=snapshot.items.flags["promotion"])
    missing = (
        "the shop has no promotions and the catalogue has no column promotion: every item was a candidate"
    )
    return Field(mask=None, notices=(missing,))


def _new(snapshot: Snapshot, now: int) -> Field:
    if "new_arrival" in snapshot.items.flags:
        return Field(mask=snapshot.items.flags["new_arrival"])
    listed = snapshot.items.listed_at
    if (listed >= 0).any():
        return Field(mask=(listed > now - FRESH_DAYS * DAY) & (listed <= now))
    missing = "the catalogue has no column new_arrival and no listed_at: every item was a candidate"
    return Field(mask=None, notices=(missing,))


def _within(snapshot: Snapshot, field: Field, name: str, wanted: Sequence[str]) -> Field:
    table = snapshot.items
    names, codes = (
        (table.categories, table.category_codes)
        if name == "categories"
        else (table.merchants, table.merchant_codes)
    )
    chosen = [code for code, known in enumerate(names) if _is_or_is_below(known, wanted)]
    mask = np.isin(codes, chosen)
    if field.mask is not None:
        mask &= field.mask
    notices = field.notices if chosen else (*field.notices, f"no item here has any of the {name} asked for")
    return Field(mask=mask, notices=notices)


def _is_or_is_below(name: str, wanted: Iterable[str]) -> bool:
    """Whether a name is one of those wanted, or a path below one: `Food > Tea` is below `Food`."""
    return any(
        name == whole or (name.startswith(whole) and name[len(whole) :].lstrip().startswith(_PATH_MARKS))
        for whole in wanted
    )
