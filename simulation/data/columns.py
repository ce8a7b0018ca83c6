"""Which column of a file is which field: what the mapping says, then the names that known layouts use."""

from __future__ import annotations

from collections.abc import Mapping as Table
from collections.abc import Sequence
from enum import StrEnum

from simulation.data.errors import MissingColumn


class Layout(StrEnum):
    """The layout that an events file is read as."""

    OWN = "own"
    """user_id,item_id,kind,timestamp[,merchant_id,quantity,price,ranking_id]"""
    RECBOLE = "recbole"
    """.inter with user_id:token,item_id:token,rating:float,timestamp:float"""
    RECTOOLS = "rectools"
    """user_id,item_id,weight,datetime"""
    LENSKIT = "lenskit"
    """user,item,rating,timestamp"""
    SEQUENCES = "sequences"
    MAPPED = "mapped"


EVENT_ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": ("user_id", "user"),
    "item_id": ("item_id", "item"),
    "kind": ("kind",),
    "timestamp": ("timestamp", "datetime"),
    "merchant_id": ("merchant_id",),
    "quantity": ("quantity",),
    "price": ("price",),
    "ranking_id": ("ranking_id",),
    "rating": ("rating",),
}

ORDER_ALIASES = ("pos", "position")
"""Columns that give the order of a shopper's events where no column gives their time."""

ITEM_ALIASES: dict[str, tuple[str, ...]] = {
    "item_id": ("item_id", "item"),
    "title": ("title", "movie_title", "name"),
    "category": ("category", "categories", "genres", "genre", "class"),
    "brand": ("brand",),
    "price": ("price",),
    "description": ("description",),
    "merchant_id": ("merchant_id",),
    "listed_at": ("listed_at",),
}

USER_ALIASES: dict[str, tuple[str, ...]] = {"user_id": ("user_id", "user")}


def pick(
    header: Sequence[str],
    mapped: Table[str, str],
    aliases: Table[str, Sequence[str]],
    *,
    file: str,
    needed: Sequence[str],
    table: str = "",
) -> dict[str, str]:
    """Return field -> column of `header`, in the order of `aliases`; `table` ("items." or "users.") leads the
    field's name in messages.

    Raises:
        MissingColumn: a mapped column is not in `header`, or a `needed` field has no column.
    """
    for field, column in mapped.items():
        if column not in header:
            raise MissingColumn(field=table + field, file=file, found=header, mapped=column)
    taken = set(mapped.values())
    chosen: dict[str, str] = {}
    for field, names in aliases.items():
        free = (name for name in names if name in header and name not in taken)
        found = mapped.get(field) or next(free, None)
        if found is not None:
            chosen[field] = found
        elif field in needed:
            raise MissingColumn(field=table + field, file=file, found=header)
    return chosen


def layout_of(file: str, header: Sequence[str], mapped: Table[str, str]) -> Layout:
    """Return the layout of an events file, for the report."""
    if file.endswith(".inter"):
        return Layout.RECBOLE
    if mapped:
        return Layout.MAPPED
    if "datetime" in header:
        return Layout.RECTOOLS
    return Layout.OWN if "user_id" in header else Layout.LENSKIT
