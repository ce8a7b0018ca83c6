"""How a user's files and columns map to shoppers, items and events.

A `Mapping` is complete by itself: every field that is left out is recognised from the files. It can be
written as a TOML file (`simulation.data.mapping_file`) and refined by `--column` flags
(`Mapping.with_columns`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath

from simulation.data.dataset import ITEM_SCHEMA, LABELS, USER_SUPPLIED, Clock
from simulation.data.errors import MappingError
from simulation.data.kinds import KINDS

EVENT_FIELDS = (
    "user_id",
    "item_id",
    "kind",
    "timestamp",
    "merchant_id",
    "quantity",
    "price",
    "ranking_id",
    "rating",
)
ITEM_FIELDS = tuple(ITEM_SCHEMA)
USER_FIELDS = ("user_id",)


class TimestampFormat(StrEnum):
    """How times are written in the file."""

    AUTO = "auto"
    """Numbers are seconds, or milliseconds where their median is above 1e11; anything else is ISO 8601."""
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    ISO = "iso"
    """ISO 8601 date or date-time; without an offset it is UTC."""


class FileFormat(StrEnum):
    """How events are written in the file."""

    TABLE = "table"
    """One event per row (CSV, TSV, Parquet, RecBole)."""
    SEQUENCES = "sequences"
    """One shopper per line: user item item ..., separated by blanks."""


class MerchantsBy(StrEnum):
    """Where merchants come from."""

    AUTO = "auto"
    """The column merchant_id of the events or items where there is one, else hashing."""
    COLUMN = "column"
    ATTRIBUTE = "attribute"
    HASH = "hash"


@dataclass(frozen=True, kw_only=True)
class MerchantRule:
    """How items (and so events) get a merchant.

    `name` is the column or item attribute. Attribute values with fewer than `minimum_items` items are
    grouped into at most `small_groups` merchants; `hashed_into` is the number of merchants made by hashing
    item ids.
    """

    by: MerchantsBy = MerchantsBy.AUTO
    name: str | None = None
    minimum_items: int = 20
    small_groups: int = 10
    hashed_into: int = 20

    def __post_init__(self) -> None:
        """Refuse a rule without its column, and counts below one."""
        if self.by in (MerchantsBy.COLUMN, MerchantsBy.ATTRIBUTE) and not self.name:
            raise MappingError(
                f"merchants by {self.by} need the name of the {self.by}; give it in [merchants]"
            )
        for key in ("minimum_items", "small_groups", "hashed_into"):
            if getattr(self, key) < 1:
                raise MappingError(f"merchants: {key} is {getattr(self, key)}, it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Files, columns, kinds, time and merchants of one data set; fields left out are recognised from the files.

    `columns`, `item_columns` and `user_columns` map our field to the file's column. `kinds` maps the file's
    word to a canonical kind; `default_kind` and `test_kind` are used where the file has no kind column.
    `basket_kinds` are the kinds that make a basket (none: no baskets); left out, the columns tell.
    File names are relative to the data folder. The two minimum counts are applied again and again until
    both hold (k-core).
    """

    name: str | None = None
    label: str = USER_SUPPLIED
    source: str = "user-supplied, no source stated"
    clock: Clock | None = None
    timestamp_format: TimestampFormat = TimestampFormat.AUTO
    file_format: FileFormat = FileFormat.TABLE
    events_file: str | None = None
    items_file: str | None = None
    users_file: str | None = None
    test_file: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    item_columns: dict[str, str] = field(default_factory=dict)
    user_columns: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    default_kind: str | None = None
    test_kind: str | None = None
    basket_kinds: tuple[str, ...] | None = None
    merchants: MerchantRule = field(default_factory=MerchantRule)
    min_items_per_user: int = 0
    min_users_per_item: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown fields, kinds and labels, negative minimums and files outside the folder."""
        refuse_unknown("columns", self.columns, EVENT_FIELDS)
        refuse_unknown("item_columns", self.item_columns, ITEM_FIELDS)
        refuse_unknown("user_columns", self.user_columns, USER_FIELDS)
        _refuse_value("label", [self.label], LABELS)
        _refuse_value("kinds", self.kinds.values(), KINDS)
        _refuse_value("default_kind", [self.default_kind or KINDS[0]], KINDS)
        _refuse_value("test_kind", [self.test_kind or KINDS[0]], KINDS)
        _refuse_value("basket_kinds", self.basket_kinds or (), KINDS)
        for key in ("min_items_per_user", "min_users_per_item"):
            if getattr(self, key) < 0:
                raise MappingError(f"filters: {key} is {getattr(self, key)}, it must be 0 or more")
        for name in (self.events_file, self.items_file, self.users_file, self.test_file):
            _refuse_escape(name)

    def with_columns(self, flags: Iterable[str]) -> Mapping:
        """Return this mapping with flags `field=column`, `items.field=column` or `users.field=column` added."""
        tables = {
            "events": dict(self.columns),
            "items": dict(self.item_columns),
            "users": dict(self.user_columns),
        }
        for flag in flags:
            left, equals, column = flag.partition("=")
            table, dot, name = left.strip().rpartition(".")
            if not equals or not column.strip() or (dot and table not in tables):
                raise MappingError(
                    f"column flag '{flag}' is not field=column, items.field=column or users.field=column"
                )
            tables[table or "events"][name] = column.strip()
        return replace(
            self, columns=tables["events"], item_columns=tables["items"], user_columns=tables["users"]
        )


def refuse_unknown(where: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Raise `MappingError` for the first of `keys` that is not `known`, listing what is known."""
    names = tuple(known)
    for key in keys:
        if key not in names:
            raise MappingError(f"unknown key '{key}' in {where}; known keys: {', '.join(names)}")


def _refuse_value(where: str, values: Iterable[str], known: Iterable[str]) -> None:
    names = tuple(known)
    for value in values:
        if value not in names:
            raise MappingError(f"{where}: '{value}' is not known; choose one of: {', '.join(names)}")


def _refuse_escape(name: str | None) -> None:
    """A data folder may come from anybody: its mapping must not reach files outside it."""
    if name is not None and (PurePath(name).is_absolute() or ".." in PurePath(name).parts):
        raise MappingError(f"files: '{name}' leaves the data folder; name a file inside it")
