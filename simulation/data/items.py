"""The items and users tables: text columns -> one validated row per item or shopper."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from simulation.data.columns import ITEM_ALIASES, USER_ALIASES, pick
from simulation.data.dataset import ITEM_SCHEMA
from simulation.data.errors import MissingColumn
from simulation.data.mapping import Mapping, MerchantsBy, TimestampFormat
from simulation.data.rejections import merge
from simulation.data.tables import LINE, TextTable, read_table
from simulation.data.timestamps import detect, numbers, parsed
from simulation.data.validation import item_text_schema, split, user_text_schema

OWNER = "__owner__"
"""Column of an item table with the merchant column or attribute, before merchants are made of it."""


@dataclass(frozen=True, kw_only=True)
class ItemTable:
    """Items of one file: `frame` has the columns of `ITEM_SCHEMA` without merchant_id, and `OWNER` (null if none)."""

    frame: pl.DataFrame
    rejections: pl.DataFrame
    owner_column: str | None
    missing: dict[str, int]


def read_items(path: Path, mapping: Mapping) -> ItemTable:
    """Read an items table; `MissingColumn` where it has no item id, or lacks a mapped column or attribute."""
    table = read_table(path)
    fields = pick(
        table.columns,
        mapping.item_columns,
        ITEM_ALIASES,
        file=table.file,
        needed=("item_id",),
        table="items.",
    )
    owner = _owner(table, fields, mapping)
    columns = {name: column for name, column in fields.items() if name != "merchant_id"}
    if owner is not None:
        columns[OWNER] = owner
    text = _stripped(table, columns)
    written = detect(text["listed_at"], TimestampFormat.AUTO) if "listed_at" in columns else None
    valid, rejected = split(text, item_text_schema(text.columns, written), table.file)
    return ItemTable(
        frame=_typed(valid, written),
        rejections=merge([table.rejections, rejected]),
        owner_column=owner,
        missing={name: text[name].null_count() for name in columns if name != OWNER},
    )


def no_items() -> ItemTable:
    """Return the item table of a data set without one."""
    frame = _typed(pl.DataFrame(schema={"item_id": pl.String}), None)
    return ItemTable(frame=frame, rejections=merge([]), owner_column=None, missing={})


def read_users(path: Path, mapping: Mapping) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (users by user_id with all other columns as text, rejections)."""
    table = read_table(path)
    fields = pick(
        table.columns,
        mapping.user_columns,
        USER_ALIASES,
        file=table.file,
        needed=("user_id",),
        table="users.",
    )
    others = {name: name for name in table.columns if name not in fields.values()}
    valid, rejected = split(_stripped(table, {**fields, **others}), user_text_schema(), table.file)
    return valid.drop(LINE).sort("user_id"), merge([table.rejections, rejected])


def _owner(table: TextTable, fields: Table[str, str], mapping: Mapping) -> str | None:
    """The column that tells merchants apart; an attribute may be named by our field or by the file's column."""
    rule = mapping.merchants
    if rule.by is MerchantsBy.HASH:
        return None
    if rule.by is MerchantsBy.AUTO:
        return fields.get("merchant_id")
    name = rule.name or ""
    column = fields.get(name, name)
    if column in table.columns:
        return column
    if rule.by is MerchantsBy.ATTRIBUTE:
        raise MissingColumn(field=f"items.{name}", file=table.file, found=table.columns)
    return None


def _stripped(table: TextTable, columns: Table[str, str]) -> pl.DataFrame:
    texts = [pl.col(column).str.strip_chars().alias(name) for name, column in columns.items()]
    return table.frame.select(LINE, *texts).with_columns(pl.col(pl.String).replace("", None))


def _typed(text: pl.DataFrame, written: TimestampFormat | None) -> pl.DataFrame:
    """All columns of `ITEM_SCHEMA` but merchant_id, and `OWNER`; what has no column is null."""
    names = [*(name for name in ITEM_SCHEMA if name != "merchant_id"), OWNER]
    absent = [pl.lit(None, dtype=pl.String).alias(name) for name in names if name not in text.columns]
    listed = parsed(pl.col("listed_at"), written or TimestampFormat.SECONDS)
    return (
        text.with_columns(absent)
        .select(names)
        .with_columns(numbers(pl.col("price")).alias("price"), listed.alias("listed_at"))
    )
