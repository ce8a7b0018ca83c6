"""Events: text columns -> validated, typed rows, with every rejected row named."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from simulation.data.columns import EVENT_ALIASES, ORDER_ALIASES, Layout, layout_of, pick
from simulation.data.dataset import EVENT_SCHEMA, Clock
from simulation.data.kinds import Kind, basket_kinds_of, kind_table
from simulation.data.mapping import FileFormat, Mapping, MerchantsBy, TimestampFormat
from simulation.data.rejections import merge
from simulation.data.tables import LINE, TextTable, read_table
from simulation.data.timestamps import clock_of, detect, numbers, parsed
from simulation.data.validation import event_text_schema, event_value_schema, split

_NULL_WORDS = ("nan", "na", "null", "none")


@dataclass(frozen=True, kw_only=True)
class EventTable:
    """The events of one file.

    `frame` has the columns of `EVENT_SCHEMA` (merchant_id is null unless the file has it), in the file's
    order. `rows` counts the file's records, rejected ones included; `missing` counts empty cells per field.
    `basket_kinds` is what makes a basket, as the columns tell.
    """

    frame: pl.DataFrame
    rejections: pl.DataFrame
    rows: int
    clock: Clock
    layout: Layout
    kinds_from: str
    basket_kinds: tuple[str, ...]
    merchant_column: str | None
    duplicates: int
    missing: dict[str, int]
    unused_columns: list[str]


def read_events(path: Path, mapping: Mapping) -> EventTable:
    """Read the events file `path` as `mapping` says.

    Raises:
        UnreadableFile: see `read_table`.
        MissingColumn: no column for the shopper or the item, or a mapped column is absent.
    """
    table = read_table(path, mapping.file_format)
    fields = _fields(table, mapping)
    kind, kinds_from = _kind_without_column(fields, mapping.default_kind)
    text = _clean(table.frame, fields, mapping.kinds, kind)
    written = detect(text["timestamp"], mapping.timestamp_format) if "timestamp" in fields else None
    frame, rejected = _validated(text, table.file, written, ordered=_ordered(fields, mapping))
    return EventTable(
        frame=frame,
        rejections=merge([table.rejections, rejected]),
        rows=table.frame.height + table.rejections.height,
        clock=_clock(frame, fields, mapping),
        layout=_layout(table, mapping),
        kinds_from=kinds_from,
        basket_kinds=basket_kinds_of(kind),
        merchant_column=fields.get("merchant_id"),
        duplicates=table.frame.height - table.frame.select(pl.exclude(LINE)).n_unique(),
        missing={field: text[field].null_count() for field in fields},
        unused_columns=[name for name in table.columns if name not in fields.values()],
    )


def _fields(table: TextTable, mapping: Mapping) -> dict[str, str]:
    """Field -> column, after the mapping's clock and merchant rule had their say."""
    sequences = mapping.file_format is FileFormat.SEQUENCES
    mapped = {} if sequences else dict(mapping.columns)
    rule = mapping.merchants
    if rule.by is MerchantsBy.COLUMN and rule.name in table.columns:
        mapped["merchant_id"] = str(rule.name)
    needed = ("user_id", "item_id")
    fields = pick(table.columns, mapped, EVENT_ALIASES, file=table.file, needed=needed)
    order = next((name for name in ORDER_ALIASES if name in table.columns), None)
    if "timestamp" not in fields and order is not None:
        fields["timestamp"] = order
    if mapping.clock is Clock.NONE:
        fields.pop("timestamp", None)
    if rule.by is not MerchantsBy.AUTO and rule.name != fields.get("merchant_id"):
        fields.pop("merchant_id", None)
    return fields


def _ordered(fields: Table[str, str], mapping: Mapping) -> bool:
    """Whether the timestamp column holds positions instead of times."""
    by_position = "timestamp" not in mapping.columns and fields.get("timestamp") in ORDER_ALIASES
    return mapping.clock is Clock.ORDER or (mapping.clock is None and by_position)


def _clock(frame: pl.DataFrame, fields: Table[str, str], mapping: Mapping) -> Clock:
    if "timestamp" not in fields:
        return Clock.NONE
    if _ordered(fields, mapping):
        return Clock.ORDER
    return mapping.clock or clock_of(frame["timestamp"])


def _layout(table: TextTable, mapping: Mapping) -> Layout:
    if mapping.file_format is FileFormat.SEQUENCES:
        return Layout.SEQUENCES
    return layout_of(table.file, table.columns, mapping.columns)


def _kind_without_column(fields: Table[str, str], default: str | None) -> tuple[str | None, str]:
    """Return (the kind of every event, or None where a column says it; words for the report)."""
    if "kind" in fields:
        return None, f"column {fields['kind']}"
    if default is not None:
        return default, f"every event is '{default}' (as the mapping says)"
    kind = Kind.RATING if "rating" in fields else Kind.VIEW
    return kind.value, f"every event is '{kind.value}' (no kind column; set default_kind to change it)"


def _clean(
    frame: pl.DataFrame, fields: Table[str, str], kinds: Table[str, str], kind: str | None
) -> pl.DataFrame:
    """Stripped text per field, empty cells as null, kinds as canonical words, and `LINE`."""
    stripped = [pl.col(column).str.strip_chars().alias(field) for field, column in fields.items()]
    text = frame.select(LINE, *stripped).with_columns(pl.col(pl.String).replace("", None))
    for field in ("quantity", "price", "rating"):
        if field in fields:
            word = pl.col(field)
            text = text.with_columns(
                pl.when(~word.str.to_lowercase().is_in(_NULL_WORDS)).then(word).alias(field)
            )
    if kind is not None:
        return text.with_columns(kind=pl.lit(kind))
    return text.with_columns(pl.col("kind").str.to_lowercase().replace(kind_table(kinds)))


def _validated(
    text: pl.DataFrame, file: str, written: TimestampFormat | None, *, ordered: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (typed rows that pass both schemas, rejections)."""
    readable, unreadable = split(
        text, event_text_schema(text.columns, written or TimestampFormat.SECONDS), file
    )
    typed = _typed(readable, written)
    valid, invalid = split(typed, event_value_schema(typed.columns, seconds=not ordered), file)
    frame = valid.select(*EVENT_SCHEMA).with_columns(pl.col("quantity").abs())
    return frame, merge([unreadable, invalid])


def _typed(text: pl.DataFrame, written: TimestampFormat | None) -> pl.DataFrame:
    """All columns of `EVENT_SCHEMA` and `LINE`; a field without a column is null, a time without one is 0."""
    absent = [
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in EVENT_SCHEMA.items()
        if name not in text.columns
    ]
    time = pl.lit(0, dtype=pl.Int64) if written is None else parsed(pl.col("timestamp"), written)
    return text.with_columns(absent).with_columns(
        time.alias("timestamp"),
        numbers(pl.col("quantity")).alias("quantity"),
        numbers(pl.col("price")).alias("price"),
    )
