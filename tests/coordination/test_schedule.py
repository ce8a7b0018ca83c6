"""Runs begin at fixed distances in UTC; what was missed is not made up for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.coordination.schedule import LONGEST_JITTER, Schedule, ScheduleError

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
"""In the hour that daylight saving skips in parts of the world; UTC has none."""
DAY = Schedule.read("24h")


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(7)),
    ],
)
def test_a_distance_is_a_number_and_a_unit(text: str, every: timedelta) -> None:
    """Seconds, minutes, hours, days."""
    assert Schedule.read(text).every == every


@pytest.mark.parametrize(
    "text", ["", "24", "h", "-1h", "1.5h", "59s", "0m", "367d", "24h ", "1h30m", "٣h", "9999999s"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    """Too short, too long, no number, no unit."""
    with pytest.raises(ScheduleError, match="such as 24h"):
        Schedule.read(text)


def test_the_first_run_begins_at_once_and_the_next_ones_after_the_distance() -> None:
    """From the newest begin, not from the newest end."""
    assert DAY.due(None, NOW) == NOW
    assert DAY.due(NOW - timedelta(hours=3), NOW) == NOW + timedelta(hours=21)


def test_missed_runs_are_one_run() -> None:
    """A machine that was off for three and a half days runs once, then at its usual hour."""
    last = NOW - timedelta(days=3, hours=12)
    due = DAY.due(last, NOW)
    assert due == NOW - timedelta(hours=12)
    assert DAY.due(due, NOW) == NOW + timedelta(hours=12)


def test_a_begin_in_the_future_is_a_clock_that_was_set_back() -> None:
    """Nobody waits for a time that a wrong clock wrote down."""
    assert DAY.due(NOW + timedelta(days=400), NOW) == NOW


@given(minutes=st.integers(1, 60 * 24 * 366), ago=st.integers(0, 10**8))
def test_a_due_time_is_a_multiple_after_the_newest_begin_and_never_more_than_one_away(
    minutes: int, ago: int
) -> None:
    """Whatever the distance, and however long ago."""
    schedule, last = Schedule.read(f"{minutes}m"), NOW - timedelta(seconds=ago)
    due = schedule.due(last, NOW)
    assert due > last and (due - last) % schedule.every == timedelta(0)
    assert NOW - schedule.every < due <= NOW + schedule.every


@given(share=st.floats(0, 1), minutes=st.integers(1, 60 * 24 * 30))
def test_a_run_is_a_little_late_and_never_early(share: float, minutes: int) -> None:
    """By at most a hundredth of the distance, and at most five minutes."""
    schedule = Schedule.read(f"{minutes}m")
    late = schedule.late(lambda low, high: low + share * (high - low))
    assert timedelta(0) <= late <= min(schedule.every / 100, LONGEST_JITTER)
