"""Times as they are written in files -> seconds UTC or positions, as polars expressions on text."""

from __future__ import annotations

import polars as pl

from simulation.data.dataset import DAY_SECONDS, Clock
from simulation.data.mapping import TimestampFormat

LATEST_SECONDS = 4_102_444_800
"""2100-01-01 UTC: a later time is a wrong unit or a typing error."""

MILLISECONDS_ABOVE = 1e11
"""A median above this (the year 5138 in seconds) is read as milliseconds."""

_ISO = "%Y-%m-%dT%H:%M:%S%.f%:z"


def numbers(text: pl.Expr) -> pl.Expr:
    """Text -> float64; null where the text is no finite number."""
    value = text.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def detect(text: pl.Series, wanted: TimestampFormat) -> TimestampFormat:
    """Return `wanted`, or where it is AUTO the format that most of the values have."""
    if wanted is not TimestampFormat.AUTO:
        return wanted
    values = text.to_frame("t").select(numbers(pl.col("t"))).to_series().drop_nulls()
    median = values.median()
    if 2 * len(values) < text.count() or not isinstance(median, float):
        return TimestampFormat.ISO
    return TimestampFormat.MILLISECONDS if median > MILLISECONDS_ABOVE else TimestampFormat.SECONDS


def parsed(text: pl.Expr, written: TimestampFormat) -> pl.Expr:
    """Text -> whole seconds (or positions) as int64; null where the text is not in the format `written`."""
    if written is TimestampFormat.ISO:
        return _iso(text).dt.epoch("s")
    unit = 1000 if written is TimestampFormat.MILLISECONDS else 1
    return (numbers(text) / unit).floor().cast(pl.Int64, strict=False)


def clock_of(timestamps: pl.Series) -> Clock:
    """DAYS where every time is a midnight UTC, else SECONDS."""
    whole_days = len(timestamps) > 0 and (timestamps % DAY_SECONDS == 0).all()
    return Clock.DAYS if whole_days else Clock.SECONDS


def _iso(text: pl.Expr) -> pl.Expr:
    """Complete a date or a short time to one full ISO form before parsing; no offset means UTC."""
    full = (
        text.str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00")
        .str.replace(r"^(\d{4}-\d{2}-\d{2}) +", "${1}T")
        .str.replace(r" ?(Z|UTC)$", "+00:00")
        .str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
        .str.replace(r"^(.{10}T\d{2}:\d{2})(\+|-|$)", "${1}:00${2}")
        .str.replace(r"^(.{10}T\d{2}:\d{2}:\d{2}(?:\.\d+)?)$", "${1}+00:00")
    )
    return full.str.to_datetime(_ISO, time_unit="us", time_zone="UTC", strict=False)
