"""Online re-encryption: every row under a fresh key, nothing lost, whoever comes between, wherever it is killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select
from sqlalchemy.event import listen

from client.consent import Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from client.store_envelopes import key_id_of
from client.store_rotation import reencrypt
from client.store_rotation_rows import SEALED_TABLES, fetch_sealed
from privacy.database import open_engine, reading, writing
from privacy.failpoints import FAILPOINTS, Failpoint, no_failpoint
from privacy.keyring import Keyring
from privacy.schema import consents, data_keys, events

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["client.store_rotation"])
SHOPPERS = [f"{number:032x}" for number in range(60)]
_ANNA, _BERTA = SHOPPERS[0], SHOPPERS[-1]

Open = Callable[..., EventStore]


def _event(shopper: str, number: int, event_id: str | None = None) -> Event:
    return Event(shopper=shopper, item_id=f"item-{number}", kind="view", timestamp=number, event_id=event_id)


def _times(store: EventStore, shopper: str) -> list[int]:
    return [event.timestamp for event in store.history(shopper)]


def _open(url: str, folder: Path, failpoint: Failpoint = no_failpoint) -> EventStore:
    return EventStore.open(url, Keyring.open(folder / "keys"), "devices", failpoint=failpoint)


@pytest.fixture
def open_store(database_url: str, tmp_path: Path) -> Iterator[Open]:
    """Open one store again and again, each time as another process would."""
    stores: list[EventStore] = []

    def open_again(failpoint: Failpoint = no_failpoint) -> EventStore:
        stores.append(_open(database_url, tmp_path, failpoint))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Open) -> EventStore:
    """A store with two pages of shoppers, each with two rows and a decision."""
    store = open_store()
    fill(store)
    return store


def fill(store: EventStore) -> None:
    """Two rows and one decision for everybody."""
    for number in (1, 2):
        store.append(_event(shopper, number, f"e{number}") for shopper in SHOPPERS)
    Consents(store.access).record(SHOPPERS, [Purpose.TRAINING], granted=True, origin="a test")


def tokens(store: EventStore) -> dict[tuple[str, str, int], int]:
    """The key that each sealed row names, by table, shopper and number."""
    found = {}
    with reading(store.access.engine) as connection:
        for shopper, number, sealed in connection.execute(
            select(events.c.shopper, events.c.number, events.c.sealed)
        ):
            found["events", shopper, number] = key_id_of(bytes(sealed))
        for shopper, sealed in connection.execute(select(consents.c.shopper, consents.c.sealed)):
            found["consents", shopper, 0] = key_id_of(bytes(sealed))
    return found


def keys(store: EventStore) -> dict[str, list[int]]:
    """The ids of the data keys that every shopper has."""
    found = store.access.keys.data_keys.keys_of(SHOPPERS)
    return {shopper: [key_id for key_id, _ in own] for shopper, own in found.items()}


def assert_whole(store: EventStore) -> None:
    """Everything that `fill` stored is there, under the only key of its shopper."""
    assert all(_times(store, shopper)[:2] == [1, 2] for shopper in SHOPPERS)
    assert Consents(store.access).granted(Purpose.TRAINING) == set(SHOPPERS)
    assert store.quarantined == frozenset()
    only = keys(store)
    found = {row: key_id for row, key_id in tokens(store).items() if row[1] in only}
    assert all([key_id] == only[shopper] for (_, shopper, _), key_id in found.items())


def test_every_row_is_under_a_fresh_key_and_the_old_ones_are_gone(
    store: EventStore, open_store: Open
) -> None:
    """Events and consents; readers of before and after see the same; the count is told."""
    before = tokens(store)
    done = reencrypt(store.access, pace=0)
    assert (done.shoppers, done.rows, done.keys_destroyed, done.unreadable) == (60, 180, 60, 0)
    after = tokens(store)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    for one in (store, open_store()):
        assert_whole(one)
        assert one.append([_event(_ANNA, 2, "e2"), _event(_ANNA, 3)]) == 1
    assert reencrypt(store.access, pace=0).generation == done.generation + 1


def test_no_row_opens_under_a_key_from_before_a_rotation(store: EventStore) -> None:
    """Rows copied before do not open after, when they are put back: their keys are destroyed."""
    own = (events.c.shopper == _ANNA, events.c.number == 0)
    with reading(store.access.engine) as connection:
        copied = connection.execute(select(events.c.sealed).where(*own)).scalar_one()
    reencrypt(store.access, pace=0)
    with writing(store.access.engine) as connection:
        connection.execute(events.update().where(*own).values(sealed=copied))
    assert _times(store, _ANNA) == [2]
    assert store.quarantined == {f"events/{_ANNA}/0"}


def test_old_keys_are_nowhere_in_the_keyrings_files(store: EventStore, tmp_path: Path) -> None:
    """Their wrapped bytes are found before a rotation and in no file after it."""
    engine = Keyring.open(tmp_path / "keys").engine
    with reading(engine) as connection:
        wrapped = [bytes(one) for one in connection.execute(select(data_keys.c.wrapped)).scalars()]

    def found() -> int:
        content = b"".join(path.read_bytes() for path in (tmp_path / "keys").iterdir() if path.is_file())
        return sum(one in content for one in wrapped)

    assert found() == len(wrapped) == 60
    reencrypt(store.access, pace=0)
    engine.dispose()
    assert found() == 0


@pytest.mark.parametrize("read", ["test.db", "keys/keys.db"])
def test_a_rotation_says_whether_old_copies_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """While somebody reads an older state of a database, its log cannot be emptied; a later rotation does it."""
    monkeypatch.setattr("privacy.sqlite.BUSY_SECONDS", 0.1)
    with _open(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as store:
        store.append([_event(_ANNA, 1)])
        engine = open_engine(tmp_path / read, create=False)
        with reading(engine) as connection:
            connection.execute(select(events)).all()
            assert not reencrypt(store.access, pace=0).old_copies_gone
        engine.dispose()
        assert reencrypt(store.access, pace=0).old_copies_gone


@pytest.mark.parametrize("table", SEALED_TABLES, ids=str)
def test_a_page_of_shoppers_is_found_without_walking_over_others(tmp_path: Path, table: Table) -> None:
    """SQLite looks between the first and the last pseudonym, in the primary key."""
    with _open(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as store:
        fill(store)
        asked = list[tuple[str, Any]]()
        listen(
            store.access.engine,
            "before_cursor_execute",
            lambda _c, _u, *query: asked.append((query[0], query[1])),
        )
        rows = fetch_sealed(store.access, table, SHOPPERS[50:], (SHOPPERS[50], 0))
        statement, values = asked[-1]
        with reading(store.access.engine) as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all())
    assert "holder=? AND shopper>? AND shopper<?" in plan
    assert {row.shopper for row in rows} >= set(SHOPPERS[51:])


def test_an_event_that_comes_between_is_kept(store: EventStore, open_store: Open) -> None:
    """At every point of a rotation another process appends to a shopper of the page and to a new one."""
    other, number = open_store(), iter(range(3, 10_000))

    def come(point: str) -> None:
        # While the rotation holds the lock of the shoppers, others can only wait for it.
        if point in ("rotate: keys in use", "rotate: rows sealed", "rotate: old keys destroyed"):
            other.append([_event(_ANNA, next(number)), _event("f" * 32, 1)])

    reencrypt(open_store(come).access, pace=0)
    came = next(number) - 3
    assert came == 6
    assert_whole(store)
    assert _times(store, _ANNA) == [*range(1, 3 + came)]
    assert len(_times(store, "f" * 32)) == came


def test_an_erasure_that_comes_between_has_the_last_word(store: EventStore, open_store: Open) -> None:
    """Erased while its rows are being sealed again: neither row nor key comes back, and the others are done."""
    eraser, erased = open_store(), list[int]()

    def erase(point: str) -> None:
        if point == "rotate: keys in use" and not erased:
            erased.append(eraser.erase(_ANNA))
            eraser.append([_event(_BERTA, 3)])

    reencrypt(open_store(erase).access, pace=0)
    assert erased == [2]
    assert _times(store, _ANNA) == []
    assert _ANNA not in keys(store)
    assert not [row for row in tokens(store) if row[1] == _ANNA]
    assert _times(store, _BERTA) == [1, 2, 3]
    assert {len(own) for own in keys(store).values()} == {1}


def test_a_shopper_who_was_erased_and_came_back_is_left_to_itself(
    store: EventStore, open_store: Open
) -> None:
    """The rotation holds rows and a key of before; it must not put them in place of what is new."""
    other, done = open_store(), list[int]()

    def come_back(point: str) -> None:
        if point == "rotate: keys in use" and not done:
            done.append(other.erase(_ANNA))
            other.append([_event(_ANNA, 7)])

    reencrypt(open_store(come_back).access, pace=0)
    assert _times(store, _ANNA) == _times(open_store(), _ANNA) == [7]
    assert store.quarantined == frozenset()


@pytest.mark.parametrize("place", [0, 4, -1], ids=["version", "key id", "body"])
def test_a_damaged_row_keeps_its_key_and_everything_else_is_rotated(store: EventStore, place: int) -> None:
    """In body or header; a backup may still repair it: put back it opens, and the next rotation takes it along."""
    own = (events.c.shopper == _ANNA, events.c.number == 1)
    with writing(store.access.engine) as connection:
        good = bytes(connection.execute(select(events.c.sealed).where(*own)).scalar_one())
        damaged = bytearray(good)
        damaged[place] ^= 1
        connection.execute(events.update().where(*own).values(sealed=bytes(damaged)))
    done = reencrypt(store.access, pace=0)
    assert (done.unreadable, done.rows, done.keys_destroyed) == (1, 179, 59)
    assert _times(store, _ANNA) == [1]
    with writing(store.access.engine) as connection:
        connection.execute(events.update().where(*own).values(sealed=good))
    assert reencrypt(store.access, pace=0).unreadable == 0
    with_all = [_times(store, shopper) for shopper in SHOPPERS]
    assert with_all == [[1, 2]] * 60
    assert {len(own) for own in keys(store).values()} == {1}


def test_another_holders_shoppers_are_left_alone(
    store: EventStore, database_url: str, tmp_path: Path
) -> None:
    """Two holders share a database and a keyring; each is rotated by itself."""
    with EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "shop-2") as other:
        other.append([_event(_ANNA, 5)])
        before = other.access.keys.data_keys.keys_of([_ANNA])
        reencrypt(store.access, pace=0)
        assert other.access.keys.data_keys.keys_of([_ANNA]) == before
        assert _times(other, _ANNA) == [5]


def _rotate_until(url: str, folder: str, point: str, passage: int) -> None:
    """Rotate, and end this process by kill -9 at the given passage of a failpoint."""
    left = [passage]

    def end(name: str) -> None:
        if name == point:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    reencrypt(_open(url, Path(folder), end).access, pace=0)


@pytest.mark.parametrize("passage", [1, 2])
@pytest.mark.parametrize("point", FAILPOINTS["rotate"])
def test_a_killed_rotation_loses_nothing_and_is_finished_by_the_next(
    store: EventStore, open_store: Open, database_url: str, tmp_path: Path, point: str, passage: int
) -> None:
    """kill -9 at each point, on its first page or a later one: all is readable at once, then rotated as a whole."""
    first = set(tokens(store).values())
    process = _processes.Process(target=_rotate_until, args=(database_url, str(tmp_path), point, passage))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    between = open_store()
    assert all(_times(between, shopper) == [1, 2] for shopper in SHOPPERS)
    assert Consents(between.access).granted(Purpose.TRAINING) == set(SHOPPERS)
    between.append([_event(_ANNA, 3)])
    reencrypt(between.access, pace=0)
    assert_whole(open_store())
    assert not first & set(tokens(store).values())


def _append_and_read(url: str, folder: str, writer: int, stop: Any, ready: Any) -> None:
    """Append and read until told to stop; fail on any operation that fails or misses an event."""
    with _open(url, Path(folder)) as store:
        number = 0
        while not stop.is_set() or not number:
            for shopper in (_ANNA, _BERTA, SHOPPERS[number % 60]):
                store.append([_event(shopper, 100 + number, f"{writer}/{number}")])
                assert len(_times(store, shopper)) >= 2
            assert len(store.read_columns()) >= 120
            assert Consents(store.access).granted(Purpose.TRAINING) == set(SHOPPERS)
            number += 1
            ready.set()
        assert store.quarantined == frozenset()


def test_nobody_fails_while_two_rotations_run_beside_readers_writers_and_an_eraser(
    store: EventStore, open_store: Open, database_url: str, tmp_path: Path
) -> None:
    """Processes append and read, threads rotate and erase: no operation fails, and all acknowledged events stay."""
    stop, ready = _processes.Event(), [_processes.Event() for _ in range(2)]
    arguments = [(database_url, str(tmp_path), writer, stop, ready[writer]) for writer in range(2)]
    processes = [_processes.Process(target=_append_and_read, args=one) for one in arguments]
    for process in processes:
        process.start()
    assert all(one.wait(60) for one in ready)
    rotations = [
        threading.Thread(target=reencrypt, args=(open_store().access,), kwargs={"pace": 0}) for _ in (1, 2)
    ]
    for rotation in rotations:
        rotation.start()
    eraser = open_store()
    for stranger in "abcdef" * 3:
        eraser.append([_event(stranger * 32, 1)])
        assert eraser.erase(stranger * 32) == 1
    for rotation in rotations:
        rotation.join(120)
    stop.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    reencrypt(store.access, pace=0)
    assert_whole(store)
    assert not {row[1] for row in tokens(store)} - set(SHOPPERS)
