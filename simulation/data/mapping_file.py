"""Mappings written as TOML: `fedrank-data.toml` in the data folder, or a file named by `--mapping`.

name = "my-shop"                      # also: label, source, clock, timestamp_format, default_kind, test_kind
basket_kinds = ["purchase"]           # our kinds; [] for no baskets
[files]                               # events, items, users, test, format = "table" | "sequences"
events = "orders.csv.gz"
[columns]                             # and [item_columns], [user_columns]: our field = your column
user_id = "customer"
[kinds]                               # your word = our kind
basket = "add_to_cart"
[merchants]                           # column | attribute (+ minimum_items, small_groups) | hash
attribute = "brand"
[filters]                             # min_items_per_user, min_users_per_item
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as Table
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from simulation.data.dataset import Clock
from simulation.data.errors import MappingError, UnreadableFile
from simulation.data.mapping import (
    FileFormat,
    Mapping,
    MerchantRule,
    MerchantsBy,
    TimestampFormat,
    refuse_unknown,
)

_WORDS = ("name", "label", "source", "default_kind", "test_kind")
_COLUMN_TABLES = ("columns", "item_columns", "user_columns", "kinds")
_TOP = (
    *_WORDS,
    "basket_kinds",
    "clock",
    "timestamp_format",
    "files",
    *_COLUMN_TABLES,
    "merchants",
    "filters",
)
_FILES = ("events", "items", "users", "test", "format")
_MERCHANTS = ("column", "attribute", "hash", "minimum_items", "small_groups")
_FILTERS = ("min_items_per_user", "min_users_per_item")

_Choice = TypeVar("_Choice", bound=StrEnum)


def read_mapping(path: Path) -> Mapping:
    """Read a mapping from the TOML file `path`.

    Raises:
        UnreadableFile: the file is absent, or not TOML.
        MappingError: a key is unknown or a value is outside its bounds; the message names the file.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableFile(f"mapping file {path.name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"mapping file {path.name} is not TOML: {error}") from error
    try:
        return mapping_of(table)
    except MappingError as error:
        raise MappingError(f"{path.name}: {error}") from error


def mapping_of(table: Table[str, Any]) -> Mapping:
    """Return the mapping that the parsed TOML `table` describes; `MappingError` for anything unknown in it."""
    refuse_unknown("the mapping", table, _TOP)
    files = _texts(table, "files")
    refuse_unknown("[files]", files, _FILES)
    filters = _table(table, "filters")
    refuse_unknown("[filters]", filters, _FILTERS)
    clock = table.get("clock")
    given: dict[str, Any] = {key: _text(key, table[key]) for key in _WORDS if key in table}
    given |= {key: _texts(table, key) for key in _COLUMN_TABLES}
    given |= {f"{key}_file": name for key, name in files.items() if key != "format"}
    given |= {key: _count(key, value) for key, value in filters.items()}
    return Mapping(
        **given,
        basket_kinds=_list("basket_kinds", table["basket_kinds"]) if "basket_kinds" in table else None,
        clock=None if clock is None else _choice(Clock, "clock", clock),
        timestamp_format=_choice(TimestampFormat, "timestamp_format", table.get("timestamp_format", "auto")),
        file_format=_choice(FileFormat, "files: format", files.get("format", "table")),
        merchants=_merchants(_table(table, "merchants")),
    )


def _merchants(table: Table[str, Any]) -> MerchantRule:
    """One of column, attribute and hash decides; none of them leaves the automatic rule."""
    refuse_unknown("[merchants]", table, _MERCHANTS)
    chosen = [key for key in ("column", "attribute", "hash") if key in table]
    if len(chosen) > 1:
        raise MappingError(f"[merchants] names {' and '.join(chosen)}; keep one of them")
    counts: dict[str, Any] = {
        key: _count(key, table[key]) for key in ("minimum_items", "small_groups") if key in table
    }
    if not chosen:
        return MerchantRule(**counts)
    by = MerchantsBy(chosen[0])
    if by is MerchantsBy.HASH:
        return MerchantRule(by=by, hashed_into=_count("hash", table["hash"]), **counts)
    return MerchantRule(by=by, name=_text(by, table[by]), **counts)


def _table(table: Table[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise MappingError(f"'{key}' must be a table; write [{key}] on a line of its own")
    return value


def _texts(table: Table[str, Any], key: str) -> dict[str, str]:
    return {name: _text(f"{key}.{name}", value) for name, value in _table(table, key).items()}


def _list(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise MappingError(f"'{key}' must be a list of texts in brackets, [] for none")
    return tuple(dict.fromkeys(_text(key, one) for one in value))


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise MappingError(f"'{key}' must be a text that is not empty")
    return value


def _count(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise MappingError(f"'{key}' must be a whole number")
    return value


def _choice(kind: type[_Choice], key: str, value: object) -> _Choice:
    try:
        return kind(str(value))
    except ValueError:
        raise MappingError(f"{key}: '{value}' is not known; choose one of: {', '.join(kind)}") from None
