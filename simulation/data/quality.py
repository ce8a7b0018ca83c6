"""Facts about the quality of a data set: outliers, age, and what the catalogue does not know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from simulation.data.dataset import DAY_SECONDS, Clock, Dataset

SPREADS = 5
SMALLEST_SPREAD = math.log(2)
LARGEST_LOG = 709.0
OUTLIER_RULE = (
    f"more than {SPREADS} interquartile ranges (each at least a factor of 2) from the median, on a log scale"
)


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """Values of `column` outside `low`..`high`, the bounds of `OUTLIER_RULE`; zeros are counted apart."""

    column: str
    rows: int
    low: float
    high: float
    zeros: int


@dataclass(frozen=True, kw_only=True)
class Staleness:
    """Age of the newest event in days (negative: it lies in the future), and how many events lie in the future."""

    newest_age_days: float
    future_rows: int


def outliers(events: pl.DataFrame, column: str) -> Outliers | None:
    """Return the outliers of a column of positive numbers, or None where it holds no positive value."""
    values = events[column].drop_nulls()
    positive = values.filter(values > 0)
    if positive.is_empty():
        return None
    logs = positive.log()
    quarter, median, three_quarters = (float(logs.quantile(q, "linear") or 0.0) for q in (0.25, 0.5, 0.75))
    reach = SPREADS * max(three_quarters - quarter, SMALLEST_SPREAD)
    return Outliers(
        column=column,
        rows=int(((logs - median).abs() > reach).sum()),
        low=_exp(median - reach),
        high=_exp(median + reach),
        zeros=int((values == 0).sum()),
    )


def _exp(logarithm: float) -> float:
    """The exponential, kept inside what a double (and JSON) can hold."""
    return math.exp(min(logarithm, LARGEST_LOG))


def staleness(dataset: Dataset, now: datetime) -> Staleness | None:
    """Return the age of the newest event at `now` (aware), or None for a clock without a calendar."""
    span = time_span(dataset)
    if span is None:
        return None
    seconds = now.timestamp()
    return Staleness(
        newest_age_days=(seconds - span[1]) / DAY_SECONDS,
        future_rows=dataset.events.filter(pl.col("timestamp") > seconds).height,
    )


def time_span(dataset: Dataset) -> tuple[int, int] | None:
    """Return (oldest, newest) event in seconds UTC, or None for a clock without a calendar."""
    if dataset.clock not in (Clock.SECONDS, Clock.DAYS):
        return None
    oldest, newest = dataset.events.select(low=pl.col("timestamp").min(), high=pl.col("timestamp").max()).row(
        0
    )
    return int(oldest), int(newest)


def items_without_details(dataset: Dataset) -> int:
    """Return how many items have neither title, category, brand nor description."""
    texts = ("title", "category", "brand", "description")
    return dataset.items.filter(pl.all_horizontal(pl.col(texts).is_null())).height
