"""Read Parquet as text columns, so that it passes the same validation as CSV."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from simulation.data.errors import UnreadableFile


def read_parquet_text(path: Path) -> pl.DataFrame:
    """Return the columns of `path` as strings.

    Dates become ISO 8601 (naive times are UTC), whole floating-point columns lose their '.0' (an id read
    through pandas becomes 17850.0), NaN becomes missing, lists of strings are joined; other nested columns
    are left out.
    """
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableFile(f"{path.name} is not a readable Parquet file; check the download") from error
    texts = [_text(column) for column in frame.iter_columns() if _readable(column.dtype)]
    return pl.DataFrame(texts)


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns that `read_parquet_text` would give, from the file's schema alone."""
    try:
        schema = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableFile(f"{path.name} is not a readable Parquet file; check the download") from error
    return [name for name, dtype in schema.items() if _readable(dtype)]


def _readable(dtype: pl.DataType) -> bool:
    return dtype == pl.List(pl.String) or not (dtype.is_nested() or dtype == pl.Binary)


def _text(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if dtype == pl.List(pl.String):
        return column.list.join(", ", ignore_nulls=True)
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
        return utc.dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    if dtype.is_float():
        column = column.fill_nan(None)
        whole = column.is_null() | (column.is_finite() & (column == column.round()) & (column.abs() < 2**53))
        return column.cast(pl.Int64).cast(pl.String) if whole.all() else column.cast(pl.String)
    return column.cast(pl.String)
