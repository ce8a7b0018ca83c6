"""Retention: what is older than an age goes, with its ids; everything else stays, whoever works meanwhile."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from client.events import Event
from client.store import EventStore
from client.store_retention import expire
from client.store_rotation import reencrypt
from privacy.database import open_engine, reading, writing
from privacy.failpoints import Failpoint, no_failpoint
from privacy.keyring import Keyring
from privacy.schema import event_ids, events

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["client.store_retention"])
SHOPPERS = [f"{number:032x}" for number in range(60)]
ANNA = SHOPPERS[0]


def _open(url: str, folder: Path, failpoint: Failpoint = no_failpoint) -> EventStore:
    return EventStore.open(url, Keyring.open(folder / "keys"), "devices", failpoint=failpoint)


def _events(shopper: str, *times: int) -> list[Event]:
    return [
        Event(
            shopper=shopper,
            item_id=f"item-{time}",
            kind="view",
            timestamp=time,
            event_id=f"e{time}",
            price=1.5,
        )
        for time in times
    ]


def _times(store: EventStore, shopper: str = ANNA) -> list[int]:
    return [event.timestamp for event in store.history(shopper)]


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[EventStore]:
    """Everybody has a row that is old, one that is half old, and one that is new."""
    with _open(database_url, tmp_path) as store:
        for times in ((1, 2), (3, 30), (31, 32)):
            store.append(event for shopper in SHOPPERS for event in _events(shopper, *times))
        yield store


def test_old_events_go_and_all_others_stay_as_they_were(store: EventStore) -> None:
    """An envelope with both is sealed again without the old ones; every field of the rest survives."""
    before = [event for event in store.history(ANNA) if event.timestamp >= 30]
    done = expire(store.access, 30, pace=0)
    assert (done.events, done.rows_deleted, done.rows_sealed_again, done.unreadable) == (180, 60, 60, 0)
    assert store.history(ANNA) == before
    assert all(_times(store, shopper) == [30, 31, 32] for shopper in SHOPPERS)
    assert expire(store.access, 30, pace=0).events == 0
    assert store.quarantined == frozenset()


def test_a_dry_run_counts_and_changes_nothing(store: EventStore) -> None:
    """The same numbers as of the real run after it."""
    counted = expire(store.access, 30, dry_run=True)
    assert len(store.read_columns()) == 360
    assert expire(store.access, 30, pace=0) == counted


def test_a_dry_run_counts_once_beside_a_row_that_does_not_open(store: EventStore) -> None:
    """A page with such a row is looked at twice; what it holds is counted as the real run counts it."""
    with writing(store.access.engine) as connection:
        own = (events.c.shopper == ANNA, events.c.number == 0)
        connection.execute(events.update().where(*own).values(sealed=b"damaged"))
    counted = expire(store.access, 30, dry_run=True)
    assert (counted.events, counted.unreadable) == (178, 1)
    assert expire(store.access, 30, pace=0) == counted


def test_the_ids_of_old_events_are_forgotten_and_no_others(store: EventStore) -> None:
    """What is gone could come again; what stayed is still known."""
    expire(store.access, 30, pace=0)
    with reading(store.access.engine) as connection:
        assert connection.execute(select(func.count()).select_from(event_ids)).scalar_one() == 180
    assert store.append(_events(ANNA, 1, 30, 31)) == 1


def test_a_row_that_does_not_open_is_counted_and_left(store: EventStore) -> None:
    """Nobody can say how old it is."""
    own = (events.c.shopper == ANNA, events.c.number == 0)
    with writing(store.access.engine) as connection:
        connection.execute(events.update().where(*own).values(sealed=b"\1" * 60))
    done = expire(store.access, 30, pace=0)
    assert (done.unreadable, done.rows_deleted) == (1, 59)


def test_of_a_deleted_event_no_byte_is_left_in_the_files(tmp_path: Path) -> None:
    """SQLite overwrites it, and the log is emptied."""
    with _open(str(tmp_path / "events.db"), tmp_path) as store:
        store.append(_events(ANNA, 1))
        store.append(_events(ANNA, 50))
        engine = open_engine(tmp_path / "events.db")
        with reading(engine) as connection:
            old, new = (
                bytes(one)
                for one in connection.execute(select(events.c.sealed).order_by(events.c.number)).scalars()
            )
        engine.dispose()
        expire(store.access, 30, pace=0)
        content = b"".join(path.read_bytes() for path in tmp_path.glob("events.db*"))
    assert old not in content
    assert new in content


def test_a_rotation_and_an_erasure_between_reading_and_changing_lose_nothing(
    store: EventStore, database_url: str, tmp_path: Path
) -> None:
    """Rows that were sealed again meanwhile are looked at again; an erased shopper does not come back."""
    with _open(database_url, tmp_path) as other:
        once: list[str] = []

        def between(rows: object) -> None:
            if not once:
                once.append("done")
                other.erase(ANNA)
                reencrypt(other.access, pace=0)

        # The first page is told before the second is read, so the second meets rows under fresh keys.
        expire(store.access, 30, pace=0, step=between)
    with _open(database_url, tmp_path) as other:
        assert _times(other) == []
        assert all(_times(other, shopper) == [30, 31, 32] for shopper in SHOPPERS[1:])
        assert other.quarantined == frozenset()


def _expire_until_killed(url: str, folder: str, passage: int) -> None:
    left = [passage]

    def end(name: str) -> None:
        left[0] -= name == "expire: before commit"
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    expire(_open(url, Path(folder), end).access, 30, pace=0)


@pytest.mark.parametrize("passage", [1, 3])
def test_a_killed_run_is_finished_by_the_next(
    store: EventStore, database_url: str, tmp_path: Path, passage: int
) -> None:
    """kill -9 before a commit: nothing new is lost, and the next run drops what this one did not reach."""
    process = _processes.Process(target=_expire_until_killed, args=(database_url, str(tmp_path), passage))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert all(_times(store, shopper)[-3:] == [30, 31, 32] for shopper in SHOPPERS)
    assert 0 < expire(store.access, 30, pace=0).events <= 180
    assert all(_times(store, shopper) == [30, 31, 32] for shopper in SHOPPERS)
