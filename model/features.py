"""What a tower sees of a shopper: the history of events and the context of the moment.

Arrays, not objects: a cohort of thousands of shoppers is one `Histories` in compressed-row form.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from model.errors import FeatureError

KINDS: tuple[str, ...] = ("view", "add_to_cart", "purchase", "search", "rating", "dismiss", "return")
SURFACES: tuple[str, ...] = ("home", "search", "detail", "cart", "new_arrivals", "promotion")
FUSION_FEATURES: tuple[str, ...] = ("affinity", "session", "complement", "prior", "text", "fresh")
"""What a score is made of, see `model.fusion`."""

SEASONS: tuple[str, ...] = ("winter", "spring", "summer", "autumn")
POSITIVE_KINDS: tuple[str, ...] = ("view", "add_to_cart", "purchase", "search", "rating")
"""Kinds that say "this shopper wants this item"; a dismissal and a return say the opposite."""

HISTORY_LIMIT = 1000
"""Newest events of a shopper that the user tower reads: caps work and the weight of any one event."""

POSITION_BUCKETS = 8
AGE_BUCKETS = 8
HOUR = 3600
DAY = 24 * HOUR
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday, and Monday is 0


@dataclass(frozen=True)
class Histories:
    """Events of many shoppers, oldest first within each shopper (compressed rows).

    Attributes:
        indptr: (shoppers + 1,) int64; shopper s owns events indptr[s]:indptr[s + 1].
        items: (events,) int32 index into the catalogue.
        kinds: (events,) int8 index into `KINDS`.
        times: (events,) int64 seconds since 1970 UTC, or the position where the data have no clock.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    kinds: NDArray[np.int8]
    times: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        events = len(self.items)
        if not (len(self.kinds) == len(self.times) == events == int(self.indptr[-1])):
            raise FeatureError(
                f"histories: {events} items, {len(self.kinds)} kinds, {len(self.times)} times and "
                f"{int(self.indptr[-1])} in indptr; all four must agree"
            )

    def __len__(self) -> int:
        """Return the number of shoppers."""
        return len(self.indptr) - 1

    @property
    def rows(self) -> NDArray[np.int64]:
        """The shopper of each event, (events,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def keep(self, mask: NDArray[np.bool_]) -> Histories:
        """Return the same shoppers with only the events where `mask` (events,) holds."""
        kept = np.concatenate([[0], np.cumsum(mask)])[self.indptr]
        return Histories(kept.astype(np.int64), self.items[mask], self.kinds[mask], self.times[mask])

    def recent(self, limit: int = HISTORY_LIMIT) -> Histories:
        """Return what the user tower reads: the newest event of each (item, kind), at most `limit` a shopper."""
        latest = self.keep(self._is_newest_of_its_item())
        return latest.keep(positions_from_end(latest.indptr) < limit)

    def _is_newest_of_its_item(self) -> NDArray[np.bool_]:
        """Return for each event whether its shopper has no newer event of that item and kind."""
        items = int(self.items.max(initial=0)) + 1
        key = (self.rows * items + self.items) * len(KINDS) + self.kinds
        _, from_end = np.unique(key[::-1], return_index=True)
        newest = np.zeros(len(key), dtype=np.bool_)
        newest[len(key) - 1 - from_end] = True
        return newest

    def select(self, shoppers: NDArray[np.int64]) -> Histories:
        """Return the histories of the given shopper rows, in that order."""
        lengths = np.diff(self.indptr)[shoppers]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        inside = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        events = np.repeat(self.indptr[shoppers], lengths) + inside
        return Histories(indptr, self.items[events], self.kinds[events], self.times[events])


@dataclass(frozen=True, kw_only=True)
class Context:
    """The moment of one ranking: surface, and the time in seconds since 1970 UTC where it is known."""

    surface: str = "home"
    timestamp: int | None = None

    def __post_init__(self) -> None:
        """Refuse a surface that no shop has."""
        if self.surface not in SURFACES:
            raise FeatureError(f"surface is {self.surface!r}; use one of {', '.join(SURFACES)}")


@dataclass(frozen=True)
class Moments:
    """Contexts of many shoppers as rows of the context table; -1 where a fact is unknown.

    Attributes:
        times: (shoppers,) int64 seconds, or -1 where no clock is known.
        codes: (shoppers, 4) int64 rows of the `context` table for surface, hour, weekday, season.
    """

    times: NDArray[np.int64]
    codes: NDArray[np.int64]


def positions_from_end(indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each event how many newer events its shopper has, (events,)."""
    return np.repeat(indptr[1:], np.diff(indptr)) - 1 - np.arange(indptr[-1])


def log_bucket(values: NDArray[np.int64], buckets: int) -> NDArray[np.int64]:
    """Return floor(log2(value + 1)) capped to the last bucket: 0, 1-2, 3-6, 7-14 and so on."""
    buckets_of = np.log2(np.maximum(values, 0) + 1).astype(np.int64)
    return np.asarray(np.minimum(buckets_of, buckets - 1), dtype=np.int64)


def context_codes(times: NDArray[np.int64], surfaces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows (shoppers, 4) of the context table for surface, hour, weekday and season.

    Seasons are those of the northern hemisphere by calendar month; a negative time gives -1.
    """
    months = times.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12
    calendar = np.stack(
        [times // HOUR % 24, (times // DAY + EPOCH_WEEKDAY) % 7, (months + 1) % 12 // 3], axis=1
    )
    offsets = len(SURFACES) + np.array([0, 24, 24 + 7])
    known = (times >= 0)[:, None]
    codes = np.concatenate([surfaces[:, None], np.where(known, calendar + offsets, -1)], axis=1)
    return np.asarray(codes, dtype=np.int64)


CONTEXT_ROWS = len(SURFACES) + 24 + 7 + len(SEASONS)


def moments(contexts: list[Context]) -> Moments:
    """Return the table rows of a list of contexts."""
    times = np.array([-1 if c.timestamp is None else c.timestamp for c in contexts], dtype=np.int64)
    surfaces = np.array([SURFACES.index(c.surface) for c in contexts], dtype=np.int64)
    return Moments(times, context_codes(times, surfaces))


def moments_at(times: NDArray[np.int64], surface: str = "home") -> Moments:
    """Return the moments of shoppers who look at one surface at the given times (-1: unknown)."""
    surfaces = np.full(len(times), SURFACES.index(surface), dtype=np.int64)
    return Moments(times, context_codes(times, surfaces))


def utc(seconds: int) -> datetime:
    """Return the moment as an aware datetime, for reports."""
    return datetime.fromtimestamp(seconds, tz=UTC)
