"""Times and the k-core, as properties."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data import Clock, Mapping, load
from simulation.data.errors import NothingUsable
from simulation.data.kcore import core
from simulation.data.kinds import KINDS
from simulation.data.mapping import TimestampFormat
from simulation.data.timestamps import clock_of, detect, parsed


def _parsed(text: str, written: TimestampFormat) -> int | None:
    frame = pl.DataFrame({"t": [text]}).select(parsed(pl.col("t"), written))
    value: int | None = frame.item()
    return value


_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1), timezones=_ZONES)


@settings(max_examples=100, deadline=None)
@given(moment=_MOMENTS, space=st.booleans(), spec=st.sampled_from(["minutes", "seconds", "milliseconds"]))
def test_any_iso_date_time_becomes_its_second_in_utc(moment: datetime, space: bool, spec: str) -> None:
    """Separator, precision and offset may vary; a time without an offset is UTC."""
    exact = moment.replace(second=0, microsecond=0) if spec == "minutes" else moment.replace(microsecond=0)
    separator = " " if space else "T"
    seconds = int(exact.timestamp())
    assert _parsed(moment.isoformat(separator, spec), TimestampFormat.ISO) == seconds
    in_utc = moment.astimezone(UTC)
    naive = in_utc.replace(tzinfo=None).isoformat(separator, spec)
    assert _parsed(naive, TimestampFormat.ISO) == seconds
    assert _parsed(naive + "Z", TimestampFormat.ISO) == seconds


@pytest.mark.parametrize("text", ["2021-02-30", "2021-13-01", "21-01-01", "2021-01-01T25:00", "noon", "2021"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """A wrong date must not roll over into the next month."""
    assert _parsed(text, TimestampFormat.ISO) is None


@given(seconds=st.integers(0, 4_000_000_000))
@settings(max_examples=50, deadline=None)
def test_seconds_and_milliseconds_mean_the_same_moment(seconds: int) -> None:
    """Also when written as floats, as RecBole does."""
    assert _parsed(str(seconds), TimestampFormat.SECONDS) == seconds
    assert _parsed(f"{seconds}.9", TimestampFormat.SECONDS) == seconds
    assert _parsed(str(seconds * 1000 + 999), TimestampFormat.MILLISECONDS) == seconds


def test_the_format_is_that_of_most_values() -> None:
    """One odd cell does not decide about a column."""
    for texts, expected in [
        (["1600000000", "1600000001", "x"], TimestampFormat.SECONDS),
        (["1600000000000", "x", "1600000000001"], TimestampFormat.MILLISECONDS),
        (["2021-01-01", "2021-01-02", "5"], TimestampFormat.ISO),
    ]:
        assert detect(pl.Series(texts), TimestampFormat.AUTO) is expected
    assert detect(pl.Series(["1"]), TimestampFormat.ISO) is TimestampFormat.ISO


def test_midnights_only_mean_days() -> None:
    """One time within a day is enough for the clock SECONDS."""
    assert clock_of(pl.Series([86400 * 3, 86400 * 9])) is Clock.DAYS
    assert clock_of(pl.Series([86400 * 3, 86400 * 9 + 1])) is Clock.SECONDS


@pytest.mark.parametrize(
    ("written", "cell"),
    [
        (TimestampFormat.SECONDS, "1600000000"),
        (TimestampFormat.MILLISECONDS, "1600000000123"),
        (TimestampFormat.ISO, "2020-09-13 12:26:40"),
    ],
)
def test_each_format_can_be_named_and_is_otherwise_recognised(
    tmp_path: Path, written: TimestampFormat, cell: str
) -> None:
    """All three give the same second."""
    path = tmp_path / "events.csv"
    path.write_text(f"user_id,item_id,timestamp\nu,i,{cell}\n")
    for mapping in (Mapping(), Mapping(timestamp_format=written)):
        assert load(path, mapping=mapping).events["timestamp"].to_list() == [1600000000]


def _peeled(pairs: set[tuple[int, int]], users: int, items: int) -> set[tuple[int, int]]:
    """The k-core by taking away one rare shopper or item at a time."""
    while True:
        for side, least in ((0, users), (1, items)):
            for key in {pair[side] for pair in pairs}:
                mine = {pair for pair in pairs if pair[side] == key}
                if len(mine) < least:
                    pairs = pairs - mine
                    break
            else:
                continue
            break
        else:
            return pairs


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40),
    users=st.integers(1, 4),
    items=st.integers(1, 4),
)
def test_the_core_is_what_peeling_one_by_one_leaves(
    rows: list[tuple[int, int]], users: int, items: int
) -> None:
    """Repeated events count once as a pair, and all of them stay or go together."""
    frame = pl.DataFrame(rows, schema={"user_id": pl.Int64, "item_id": pl.Int64}, orient="row")
    kept = core(frame, items_per_user=users, users_per_item=items).rows()
    expected = _peeled(set(rows), users, items)
    assert kept == [row for row in rows if row in expected]


def test_filters_that_leave_nothing_are_an_error(tmp_path: Path) -> None:
    """The message names both bounds."""
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\nu,i\nu,j\nv,i\n")
    kept = load(path, mapping=Mapping(min_users_per_item=2))
    assert kept.events["item_id"].to_list() == ["i", "i"]
    assert kept.items["item_id"].to_list() == ["i"]
    with pytest.raises(NothingUsable, match="min_items_per_user=9 and min_users_per_item=0"):
        load(path, mapping=Mapping(min_items_per_user=9))


def test_the_readers_know_exactly_the_models_kinds() -> None:
    """Two rooms name the kinds; they must not drift apart."""
    from model.features import KINDS as MODEL_KINDS

    assert KINDS == MODEL_KINDS
