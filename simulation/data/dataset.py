"""What every reader returns: one validated set of shopping events with its catalogue.

A `Dataset` is public or user-supplied input of a simulation. The columns and their types are fixed here, so
that no other room has to know where the events came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from server.serving.promotions import SCHEMA
from simulation.data.kinds import BASKET_KINDS

REAL = "real"
SIMULATED = "simulated (published as simulated)"
USER_SUPPLIED = "user-supplied"
LABELS = (REAL, SIMULATED, USER_SUPPLIED)

DAY_SECONDS = 86_400

EVENT_SCHEMA: dict[str, type[pl.DataType]] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "kind": pl.String,
    "timestamp": pl.Int64,
    "merchant_id": pl.String,
    "quantity": pl.Float64,
    "price": pl.Float64,
    "ranking_id": pl.String,
}

ITEM_SCHEMA: dict[str, type[pl.DataType]] = {
    "item_id": pl.String,
    "title": pl.String,
    "category": pl.String,
    "brand": pl.String,
    "price": pl.Float64,
    "description": pl.String,
    "merchant_id": pl.String,
    "listed_at": pl.Int64,
}

PROMOTION_SCHEMA = SCHEMA
"""Columns of promotions: those of the file that the ranking endpoint reads."""


class Clock(StrEnum):
    """What the column `timestamp` of the events means."""

    SECONDS = "seconds"
    """Seconds since 1970-01-01 UTC."""
    DAYS = "days"
    """Seconds since 1970-01-01 UTC of a midnight: only the day is known."""
    ORDER = "order"
    """Position within the shopper's history, oldest first; comparable only within one shopper."""
    NONE = "none"
    """No time at all: every timestamp is 0 and the order of a shopper's events means nothing."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Events, catalogue and origin of one data set.

    `events` has the columns of `EVENT_SCHEMA`, sorted by shopper and time (rows of equal time keep the
    file's order). `price` is the price of one unit; `quantity` of a return is the number of units returned,
    so it is positive. `items` has the columns of `ITEM_SCHEMA`, one row per item, sorted by `item_id`; it
    covers every item of `events` and `given_test` and may hold catalogue items without any event.
    `given_test` is the held-out part of a set with a split of its own, same columns as `events`; where its
    file has no time, a row carries the time of the shopper's newest event (0 for a shopper without one).

    A basket is what one shopper purchased at one timestamp: the sets that know baskets stamp all lines of one
    alike. `listed_at` is the Unix second at which a shop says that it listed the item, null where nobody says it;
    it is never taken from events. `promotions` has the columns of `PROMOTION_SCHEMA`, one row per promotion and
    item: `discount` of one piece as a share of its price, `least_quantity` pieces to buy, valid from `starts` to
    before `ends` in Unix seconds; None where the set has none. `basket_kinds` are the kinds of events that make a
    basket when a model is learned: declared by the set's mapping or its columns, never found in its rows, since a run
    publishes them.
    """

    name: str
    label: str
    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None
    given_test: pl.DataFrame | None
    clock: Clock
    merchants_from: str
    rejected_rows: int
    source: str
    promotions: pl.DataFrame | None = None
    basket_kinds: tuple[str, ...] = BASKET_KINDS
