"""Windows of a series never overlap, whoever publishes, and coarse times and places stay coarse."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.coarse import Window, coarse_place, coarse_time
from privacy.errors import DatabaseMissing, TooFine, WindowOverlaps
from privacy.publications import Publications

_DAY = timedelta(days=1)


def _window(first: int, days: int = 7) -> Window:
    starts = date(2026, 1, 5) + first * _DAY
    return Window(starts=starts, ends=starts + days * _DAY)


def test_windows_may_touch_and_never_overlap(database_url: str) -> None:
    """One day in common is refused from either side, inside and around; another series is another matter."""
    record = Publications.open(database_url)
    record.claim("orders", _window(7))
    for first, days in ((7, 7), (1, 7), (13, 7), (0, 21), (8, 7)):
        with pytest.raises(WindowOverlaps, match="series 'orders'"):
            record.claim("orders", _window(first, days))
    record.claim("orders", _window(0))
    record.claim("orders", _window(14))
    record.claim("views", _window(1))
    record.close()


def test_a_published_window_is_remembered(database_url: str) -> None:
    """By another process, too: the record is in the database."""
    first = Publications.open(database_url)
    first.claim("orders", _window(0))
    first.close()
    second = Publications.open(database_url, create=False)
    with pytest.raises(WindowOverlaps):
        second.claim("orders", _window(3))
    second.close()


def test_a_record_that_must_exist_is_not_made(tmp_path: Path) -> None:
    """A wrong path must not look like a series that was never published."""
    with pytest.raises(DatabaseMissing):
        Publications.open(tmp_path / "absent.db", create=False)


def test_of_overlapping_windows_that_are_claimed_at_once_exactly_one_is_granted(database_url: str) -> None:
    """Four publishers, each over connections of its own, claim clashing windows of one series after another."""
    rounds, start = 25, threading.Barrier(4)
    Publications.open(database_url).close()

    def claim(publisher: int) -> list[int]:
        record, granted = Publications.open(database_url), []
        for number in range(rounds):
            start.wait()
            with contextlib.suppress(WindowOverlaps):
                record.claim(f"series {number}", _window(publisher))
                granted.append(number)
        record.close()
        return granted

    with ThreadPoolExecutor(4) as threads:
        granted = sorted(itertools.chain(*threads.map(claim, range(4))))
    assert granted == list(range(rounds))


def test_a_window_is_a_week_of_whole_days_at_least() -> None:
    """Shorter ones, reversed ones and times of day are refused."""
    for days in (6, 0, -7):
        with pytest.raises(TooFine, match="at least 7"):
            _window(0, days)
    with pytest.raises(TooFine, match="whole days"):
        Window(starts=datetime(2026, 1, 5, 9, tzinfo=UTC), ends=datetime(2026, 1, 12, 9, tzinfo=UTC))
    assert _window(0).seconds() == (1_767_571_200, 1_767_571_200 + 7 * 86_400)


@given(st.integers(0, 4_000_000_000), st.integers(0, 6 * 3600 - 1))
def test_all_times_of_one_part_of_a_day_look_alike(day_part: int, later: int) -> None:
    """Every second within six hours gives the same words, and so does the next day of the week."""
    start = day_part - day_part % (6 * 3600)
    assert coarse_time(start) == coarse_time(start + later)
    monday = start - (datetime.fromtimestamp(start, UTC).weekday()) * 86_400
    assert len({coarse_time(monday + n * 86_400 + later) for n in range(7)}) <= 2


def test_coarse_times_name_week_and_part_of_day() -> None:
    """The week is that of ISO 8601: the first days of January may belong to the last week of December."""
    at = {hour: int(datetime(2027, 1, 1, hour, 59, tzinfo=UTC).timestamp()) for hour in (0, 6, 12, 23)}
    assert [coarse_time(moment) for moment in at.values()] == [
        "2026-W53 night",
        "2026-W53 morning",
        "2026-W53 afternoon",
        "2026-W53 evening",
    ]


@given(st.text(alphabet="0123456789ABCxyz -", max_size=10))
def test_no_more_than_two_characters_of_a_postal_code_leave(code: str) -> None:
    """Codes that begin alike cannot be told apart."""
    place = coarse_place(country="DE", postal_code=code)
    assert len(place) <= len("DE 12")
    assert place == coarse_place(country="DE", postal_code=f"{code} 77") or len(place) < len("DE 12")


def test_places_are_countries_regions_or_the_start_of_a_postal_code() -> None:
    """What could be a town or a street is refused, and the message does not repeat it."""
    assert coarse_place(country="DE") == "DE"
    assert coarse_place(country="DE", region="BY") == "DE-BY"
    assert coarse_place(country="GB", postal_code="sw1a 1aa") == "GB SW"
    for wrong in (
        {"country": "Rose Lane 3"},
        {"country": "DE", "region": "Rose Lane 3"},
        {"country": "DE", "region": "BY", "postal_code": "80331"},
    ):
        with pytest.raises(TooFine) as error:
            coarse_place(**wrong)
        assert "Rose" not in str(error.value) and "80331" not in str(error.value)


def test_the_example_of_the_page_prints_what_the_page_says_and_cannot_be_published_twice(
    tmp_path: Path,
) -> None:
    """docs/anonymisation.md shows a program and its output; a second run is refused."""
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs/anonymisation.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (printed,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-c", program]
    paths = {**os.environ, "PYTHONPATH": str(root)}
    first, second = (
        subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=60)
        for _ in range(2)
    )
    assert (first.returncode, first.stdout) == (0, printed), first.stderr
    assert "WindowOverlaps" in second.stderr and second.stdout == ""
