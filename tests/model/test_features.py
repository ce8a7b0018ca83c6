"""What the towers see: histories, contexts, buckets and the calendar."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tower_world import histories_of

from model.errors import FeatureError
from model.features import (
    CONTEXT_ROWS,
    HISTORY_LIMIT,
    KINDS,
    SEASONS,
    SURFACES,
    Context,
    Histories,
    context_codes,
    log_bucket,
    moments,
    moments_at,
    positions_from_end,
    utc,
)

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Event = tuple[int, str, int]
shopper_lists = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(KINDS[:3]), st.integers(0, 50)), max_size=12).map(
        lambda events: sorted(events, key=lambda event: event[2])
    ),
    min_size=1,
    max_size=5,
)


def as_lists(histories: Histories) -> list[list[Event]]:
    """Histories back as lists of (item, kind, time)."""
    events = [
        (int(item), KINDS[kind], int(time))
        for item, kind, time in zip(histories.items, histories.kinds, histories.times, strict=True)
    ]
    return [events[a:b] for a, b in zip(histories.indptr[:-1], histories.indptr[1:], strict=True)]


@settings(max_examples=150)
@given(shopper_lists, st.integers(1, 5))
def test_recent_keeps_the_newest_event_of_each_item_and_kind(shoppers: list[list[Event]], limit: int) -> None:
    """Equal to the same rule written event by event: newest per (item, kind), then the newest `limit`."""
    expected = []
    for events in shoppers:
        newest = [
            event
            for place, event in enumerate(events)
            if not any(later[:2] == event[:2] for later in events[place + 1 :])
        ]
        expected.append(newest[-limit:])
    assert as_lists(histories_of(*shoppers).recent(limit)) == expected


def test_recent_reads_at_most_the_history_limit() -> None:
    """A shopper with more distinct items keeps the newest ones, in order."""
    many = [(item, "view", item) for item in range(HISTORY_LIMIT + 30)]
    kept = histories_of([], many, [(3, "view", 1)]).recent()
    assert np.diff(kept.indptr).tolist() == [0, HISTORY_LIMIT, 1]
    assert kept.items[:-1].tolist() == list(range(30, HISTORY_LIMIT + 30))


@given(shopper_lists, st.data())
def test_select_and_keep_agree_with_lists(shoppers: list[list[Event]], data: st.DataObject) -> None:
    """Rows in any order and repetition, and events by any mask, as with plain lists."""
    histories = histories_of(*shoppers)
    rows = data.draw(st.lists(st.integers(0, len(shoppers) - 1), max_size=6))
    assert as_lists(histories.select(np.array(rows, dtype=np.int64))) == [shoppers[row] for row in rows]
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(histories.items), max_size=len(histories.items)))
    )
    flags = iter(mask.tolist())
    expected = [[event for event in events if next(flags)] for events in shoppers]
    assert as_lists(histories.keep(mask.astype(np.bool_))) == expected


@given(shopper_lists)
def test_rows_and_positions_name_the_shopper_and_its_newer_events(shoppers: list[list[Event]]) -> None:
    """`rows` is the shopper of each event; a position counts the newer events of the same shopper."""
    histories = histories_of(*shoppers)
    assert histories.rows.tolist() == [row for row, events in enumerate(shoppers) for _ in events]
    expected = [len(events) - 1 - place for events in shoppers for place in range(len(events))]
    assert positions_from_end(histories.indptr).tolist() == expected
    assert len(histories) == len(shoppers)


@pytest.mark.parametrize("part", range(4))
def test_arrays_that_do_not_belong_together_are_refused(part: int) -> None:
    """One event too few in any of the four arrays is named with all four lengths."""
    whole = histories_of([(1, "view", 1), (2, "view", 2)])
    short = [np.array([0, 1]), whole.items[:1], whole.kinds[:1], whole.times[:1]]
    arrays: list[Any] = [whole.indptr, whole.items, whole.kinds, whole.times]
    arrays[part] = short[part]
    with pytest.raises(FeatureError, match="all four must agree"):
        Histories(*arrays)


def test_log_buckets_double_in_width() -> None:
    """0 | 1-2 | 3-6 | 7-14 ..., negative values in the first and large ones in the last bucket."""
    values = np.array([-5, 0, 1, 2, 3, 6, 7, 14, 15, 126, 127, 10**15])
    assert log_bucket(values, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 6, 7, 7]
    assert log_bucket(values, 3).tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]


@given(st.integers(0, 2**40))
def test_log_buckets_are_the_bit_length(value: int) -> None:
    """floor(log2(value + 1)) without rounding errors at any power of two."""
    assert log_bucket(np.array([value]), 64).tolist() == [(value + 1).bit_length() - 1]


@pytest.mark.parametrize(
    ("moment", "hour", "weekday", "season"),
    [
        ("1970-01-01T00:00:00", 0, "Thursday", "winter"),
        ("1969-07-20T20:17:40", None, None, None),
        ("2000-02-29T23:59:59", 23, "Tuesday", "winter"),
        ("2023-03-01T12:00:00", 12, "Wednesday", "spring"),
        ("2023-05-31T05:00:00", 5, "Wednesday", "spring"),
        ("2024-06-01T06:30:00", 6, "Saturday", "summer"),
        ("2021-08-31T23:00:00", 23, "Tuesday", "summer"),
        ("2025-09-01T00:00:00", 0, "Monday", "autumn"),
        ("2010-11-30T18:45:00", 18, "Tuesday", "autumn"),
        ("2010-12-01T08:26:00", 8, "Wednesday", "winter"),
        ("2022-01-02T13:00:00", 13, "Sunday", "winter"),
    ],
)
def test_known_dates_have_their_hour_weekday_and_season(
    moment: str, hour: int | None, weekday: str | None, season: str | None
) -> None:
    """Dates from a calendar on the wall, in UTC; a time before 1970 counts as unknown."""
    seconds = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())
    codes = moments([Context(surface="cart", timestamp=seconds)]).codes[0].tolist()
    hours, days = len(SURFACES), len(SURFACES) + 24
    known = (hour, weekday, season)
    expected = (
        [-1, -1, -1]
        if hour is None
        else [hours + hour, days + WEEKDAYS.index(str(weekday)), days + 7 + SEASONS.index(str(season))]
    )
    assert codes == [SURFACES.index("cart"), *expected], known


@given(st.integers(0, 2**33))
def test_codes_agree_with_the_standard_library(seconds: int) -> None:
    """Hour and weekday of any moment are those of Python's own calendar."""
    codes = context_codes(np.array([seconds]), np.array([0]))[0]
    at = utc(seconds)
    assert codes[1:3].tolist() == [len(SURFACES) + at.hour, len(SURFACES) + 24 + at.weekday()]
    assert at.utcoffset() is not None and int(at.timestamp()) == seconds


def test_every_context_has_rows_of_its_own_in_one_table() -> None:
    """Surfaces, hours, weekdays and seasons fill the table without overlap and without gap."""
    times = np.arange(0, 366 * 24 * 3600, 3600)
    rows = {
        row
        for surface in range(len(SURFACES))
        for row in np.unique(context_codes(times, np.full(len(times), surface))).tolist()
    }
    assert rows == set(range(CONTEXT_ROWS))
    assert len(SURFACES) + 24 + 7 + len(SEASONS) == CONTEXT_ROWS


def test_an_unknown_clock_leaves_only_the_surface() -> None:
    """Without a timestamp, hour, weekday and season are absent rather than midnight of 1970."""
    found = moments([Context(), Context(surface="promotion", timestamp=0)])
    assert found.times.tolist() == [-1, 0]
    assert found.codes[0].tolist() == [0, -1, -1, -1]
    assert found.codes[1].tolist() == [5, 6, 6 + 24 + 3, 6 + 24 + 7]
    same = moments_at(np.array([-1, 0]), "promotion")
    assert same.codes[:, 0].tolist() == [5, 5] and same.codes[0, 1:].tolist() == [-1, -1, -1]


def test_a_surface_that_no_shop_has_is_refused_with_the_ones_there_are() -> None:
    """The message names the wrong word and the right ones."""
    with pytest.raises(FeatureError, match=r"'checkout'.*home, search"):
        Context(surface="checkout")
