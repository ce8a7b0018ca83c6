"""What a row must satisfy, as pandera schemas, and which rows do not.

Two passes: `text` schemas judge what is written (present? a number? a known kind?), `value` schemas judge
what it means (in range?). A schema's check name is the reason that the report prints. pandera is imported
on first use, since it costs a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from simulation.data.errors import DataError
from simulation.data.kinds import KINDS, Kind
from simulation.data.mapping import TimestampFormat
from simulation.data.rejections import rejections
from simulation.data.tables import LINE
from simulation.data.timestamps import LATEST_SECONDS, numbers, parsed

if TYPE_CHECKING:
    import pandera.polars as pa
    from pandera.api.polars.types import PolarsData

_MISSING = "not_nullable"


def event_text_schema(fields: Sequence[str], written: TimestampFormat) -> pa.DataFrameSchema:
    """Return the schema of events as text columns `fields`, times being in the format `written`."""
    known = _check(lambda kind: kind.is_in(KINDS), "is not a known kind; map it in [kinds]")
    unreadable = f"is not a time in the format '{written.value}'"
    columns = {
        "user_id": _column(),
        "item_id": _column(),
        "kind": _column(known),
        "timestamp": _column(_check(lambda text: parsed(text, written).is_not_null(), unreadable)),
        "merchant_id": _column(),
        "quantity": _number(),
        "price": _number(),
        "rating": _number(),
    }
    return _schema(columns, fields)


def event_value_schema(fields: Sequence[str], *, seconds: bool) -> pa.DataFrameSchema:
    """Return the schema of parsed events; `seconds` says that the timestamp is a time, not a position."""
    latest, bounds = (LATEST_SECONDS, "is outside 1970 to 2100") if seconds else (2**53, "is negative")
    returned = pl.col("kind") == Kind.RETURN.value
    columns = {
        "timestamp": _column(_check(lambda value: value.is_between(0, latest), bounds), dtype=pl.Int64),
        "price": _column(_check(lambda value: value >= 0, "is negative"), dtype=pl.Float64, nullable=True),
        "quantity": _column(
            _check(lambda value: (value >= 0) | returned, "is negative and the kind is not return"),
            dtype=pl.Float64,
            nullable=True,
        ),
    }
    return _schema(columns, fields)


def item_text_schema(fields: Sequence[str], written: TimestampFormat | None) -> pa.DataFrameSchema:
    """Return the schema of an items table as text: each item once, prices not negative, listed_at in `written`."""
    price = _check(lambda text: numbers(text).fill_null(-1) >= 0, "is not a number, or is negative")
    time = written or TimestampFormat.SECONDS
    listed = _check(
        lambda text: parsed(text, time).is_between(0, LATEST_SECONDS).fill_null(value=False),
        f"is not a time from 1970 to 2100 in the format '{time.value}'",
    )
    columns = {
        "item_id": _identity(),
        "price": _column(price, nullable=True),
        "listed_at": _column(listed, nullable=True),
    }
    return _schema(columns, fields)


def user_text_schema() -> pa.DataFrameSchema:
    """Return the schema of a users table as text: each shopper once."""
    return _schema({"user_id": _identity()}, ["user_id"])


def split(frame: pl.DataFrame, schema: pa.DataFrameSchema, file: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (the rows of `frame` that satisfy `schema`, the rejections of the others by line and reason)."""
    import pandera.errors

    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        # pandera's message and failure cases quote values, so only positions and check names go on.
        failures = errors.failure_cases.select("index", "column", "check")
    else:
        return frame, rejections(file)
    if failures["index"].null_count():
        raise DataError(f"{file} does not have the types of its schema: {sorted(set(failures['column']))}")
    indices = failures["index"].to_list()
    lines = frame[LINE].gather(indices)
    reasons = ["is missing" if check == _MISSING else check for check in failures["check"]]
    rejected = rejections(file, zip(lines, failures["column"], reasons, strict=True))
    return frame.with_row_index("__row__").filter(~pl.col("__row__").is_in(indices)).drop("__row__"), rejected


def _schema(columns: dict[str, pa.Column], fields: Sequence[str]) -> pa.DataFrameSchema:
    import pandera.polars as pa

    return pa.DataFrameSchema({name: column for name, column in columns.items() if name in fields})


def _column(*checks: pa.Check, dtype: type[pl.DataType] = pl.String, nullable: bool = False) -> pa.Column:
    import pandera.polars as pa

    return pa.Column(dtype, list(checks), nullable=nullable)


def _identity() -> pa.Column:
    """A key column; of the rows that share a key the first is good."""
    return _column(_check(lambda key: key.is_first_distinct(), "repeats an earlier row"))


def _number() -> pa.Column:
    return _column(_check(lambda text: numbers(text).is_not_null(), "is not a number"), nullable=True)


def _check(holds: Callable[[pl.Expr], pl.Expr], reason: str) -> pa.Check:
    """Return a row-wise check on a column; a missing value is judged by `nullable`, not here."""
    import pandera.polars as pa

    def verdict(data: PolarsData) -> pl.LazyFrame:
        column = pl.col(data.key)
        return data.lazyframe.select(holds(column) | column.is_null())

    return pa.Check(verdict, name=reason)
