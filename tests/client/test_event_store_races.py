"""Appending, reading, erasing and rotating at once, and kill -9 between any two steps: on both databases."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from client.events import Event
from client.store import EventStore
from client.store_envelopes import ShopperSeal, key_id_of
from client.store_locking import use_keys
from privacy.failpoints import FAILPOINTS, Failpoint, no_failpoint
from privacy.keyring import Keyring
from privacy.schema import events

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["client.store"])
_ANNA, _BERTA = (f"{number:032x}" for number in range(2))

Open = Callable[..., EventStore]


def _event(shopper: str, number: int, event_id: str | None = None) -> Event:
    return Event(shopper=shopper, item_id=f"item-{number}", kind="view", timestamp=number, event_id=event_id)


def _times(store: EventStore, shopper: str = _ANNA) -> list[int]:
    return [event.timestamp for event in store.history(shopper)]


def _open(url: str, folder: Path, failpoint: Failpoint = no_failpoint) -> EventStore:
    """Open the store as another process would: with a keyring of its own, so with nothing in its cache."""
    return EventStore.open(url, Keyring.open(folder / "keys"), "devices", failpoint=failpoint)


@pytest.fixture
def open_store(database_url: str, tmp_path: Path) -> Iterator[Open]:
    """Open the same store once more, each time with a keyring of its own."""
    stores: list[EventStore] = []

    def open_again(failpoint: Failpoint = no_failpoint) -> EventStore:
        stores.append(_open(database_url, tmp_path, failpoint))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def _once_at(point: str, act: Callable[[], Any]) -> Failpoint:
    """Return a failpoint that acts at the first passage of a point."""
    left = [point]

    def failpoint(name: str) -> None:
        if name in left:
            left.remove(name)
            act()

    return failpoint


def _rotate(store: EventStore, shopper: str) -> None:
    """Give a shopper a new key, seal all of its rows under that, and destroy the old ones."""
    holder, data_keys = store.access.holder, store.access.keys.data_keys
    old = [(shopper, key_id) for key_id, _ in data_keys.keys_of([shopper])[shopper]]
    new = data_keys.make([shopper], data_keys.begin_generation())[shopper]
    own = (events.c.holder == holder, events.c.shopper == shopper)
    with store.access.writing() as connection:
        use_keys(connection, holder, {shopper: new.key_id})
        for row in connection.execute(select(events).where(*own)).all():
            key_id = key_id_of(row.sealed)
            key = data_keys.find([(shopper, key_id)])[shopper, key_id]
            payload = ShopperSeal(key, key_id, holder, shopper).open(row.number, row.sealed)
            sealed = ShopperSeal(new.key, new.key_id, holder, shopper).seal(row.number, payload)
            change = events.update().where(*own, events.c.number == row.number).values(sealed=sealed)
            connection.execute(change)
    data_keys.drop(old)


def test_an_erasure_between_key_and_transaction_leaves_the_new_event_readable_and_nothing_else(
    open_store: Open,
) -> None:
    """The key that an append took from its cache is destroyed before it locks the shopper: it makes a fresh one."""
    eraser = open_store()
    append = open_store(_once_at("append: keys made", lambda: eraser.erase(_ANNA)))
    eraser.append([_event(_ANNA, 1, "e1")])
    append.access.keys.data_keys.newest([_ANNA])
    assert append.append([_event(_ANNA, 2), _event(_BERTA, 3)]) == 2
    for store in (append, eraser, open_store()):
        assert (_times(store), _times(store, _BERTA)) == ([2], [3])
        assert store.quarantined == frozenset()
    assert eraser.append([_event(_ANNA, 1, "e1")]) == 1, "an erased event's id is forgotten"


def test_an_erasure_waits_for_an_append_that_has_the_shopper_and_takes_its_events_too(
    open_store: Open,
) -> None:
    """Begun while the append holds the shopper's row, it can only come after the append's commit."""
    eraser, erased = open_store(), list[int]()
    thread = threading.Thread(target=lambda: erased.append(eraser.erase(_ANNA)))
    append = open_store(_once_at("append: before commit", thread.start))
    assert append.append([_event(_ANNA, 1)]) == 1
    thread.join(60)
    assert erased == [1]
    for store in (append, open_store()):
        assert _times(store) == []
        assert store.quarantined == frozenset()
    assert append.append([_event(_ANNA, 2)]) == 1
    assert _times(open_store()) == [2]


def test_a_key_that_was_replaced_between_its_reading_and_the_transaction_is_not_used(
    open_store: Open,
) -> None:
    """The row of the shopper says which key counts, not the cache of whoever appends."""
    rotation = open_store()
    append = open_store(_once_at("append: keys made", lambda: _rotate(rotation, _ANNA)))
    rotation.append([_event(_ANNA, 1)])
    append.access.keys.data_keys.newest([_ANNA])
    assert append.append([_event(_ANNA, 2)]) == 1
    for store in (append, rotation, open_store()):
        assert _times(store) == [1, 2]
        assert store.quarantined == frozenset()
    assert len(rotation.access.keys.data_keys.keys_of([_ANNA])[_ANNA]) == 1


def test_a_reader_that_comes_between_the_end_of_the_keys_and_of_the_rows_raises_no_alarm(
    open_store: Open,
) -> None:
    """An erasure has destroyed the keys and not committed yet: the reader waits for it and finds nobody."""
    reader, found = open_store(), list[list[int]]()
    thread = threading.Thread(target=lambda: found.append(_times(reader)))

    def let_it_read() -> None:
        thread.start()
        time.sleep(0.3)

    eraser = open_store(_once_at("erase: keys destroyed", let_it_read))
    eraser.append([_event(_ANNA, 1)])
    assert eraser.erase(_ANNA) == 1
    thread.join(60)
    assert found == [[]]
    assert reader.quarantined == frozenset()


@pytest.mark.parametrize("change", ["rotated", "erased"])
def test_a_reader_whose_key_went_away_while_it_read_looks_again(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Rows were read and their key is gone: sealed again they are served, erased they are not there; no alarm."""
    other = open_store()
    other.append([_event(_ANNA, 1), _event(_BERTA, 5)])
    reader = open_store()
    data_keys = reader.access.keys.data_keys
    find, changes = data_keys.find, [_rotate if change == "rotated" else EventStore.erase]

    def find_late(wanted: Any) -> Any:
        if changes:
            changes.pop()(other, _ANNA)
        return find(wanted)

    monkeypatch.setattr(data_keys, "find", find_late)
    assert reader.read_columns().timestamp == ([1, 5] if change == "rotated" else [5])
    assert not changes
    assert reader.quarantined == frozenset()


def _append_and_log(url: str, folder: Path, log: Path, stop: Path) -> None:
    with _open(url, folder) as store, log.open("a") as acknowledged:
        for number in range(1_000_000):
            if stop.exists():
                return
            store.append([_event(_ANNA, number), _event(_BERTA, number)])
            print(number, file=acknowledged, flush=True)


def test_erasing_while_another_process_appends_forgets_all_before_and_keeps_all_after(
    database_url: str, tmp_path: Path, open_store: Open
) -> None:
    """Whatever was acknowledged before an erasure began is gone, whatever began after its end is readable."""
    store, log, stop = open_store(), tmp_path / "log", tmp_path / "stop"
    log.touch()
    process = _processes.Process(target=_append_and_log, args=(database_url, tmp_path, log, stop))
    process.start()

    def acknowledged() -> int:
        return len(log.read_text().splitlines())

    before = after = 0
    for _ in range(4):
        _wait_until(acknowledged, after + 5)
        before = acknowledged()
        store.erase(_ANNA)
        after = acknowledged()
        assert min(_times(store), default=before) >= before
    _wait_until(acknowledged, after + 5)
    stop.touch()
    process.join(60)
    last, fresh = acknowledged(), open_store()
    found = _times(fresh)
    # The append on its way while the last erasure ended may have come before it or after.
    assert set(range(after + 1, last)) <= set(found) <= set(range(before, last))
    assert _times(fresh, _BERTA) == list(range(last))
    assert store.quarantined == fresh.quarantined == frozenset()


def test_threads_that_append_erase_and_read_one_shopper_at_once_meet_no_error(open_store: Open) -> None:
    """Four at a time, for a while: nothing is quarantined, and what comes last is there."""
    writers, eraser, reader = [open_store() for _ in range(2)], open_store(), open_store()

    def write(store: EventStore) -> int:
        return sum(store.append([_event(_ANNA, number), _event(_BERTA, number)]) for number in range(30))

    with ThreadPoolExecutor(4) as pool:
        erased = pool.submit(lambda: [eraser.erase(_ANNA) for _ in range(10)])
        read = pool.submit(lambda: [len(reader.read_columns()) for _ in range(30)])
        assert list(pool.map(write, writers)) == [60, 60]
        erased.result(60), read.result(60)
    assert writers[0].append([_event(_ANNA, 99)]) == 1
    fresh = open_store()
    assert _times(fresh)[-1] == 99
    assert _times(fresh, _BERTA) == sorted([*range(30), *range(30)])
    assert {name for store in (*writers, eraser, reader, fresh) for name in store.quarantined} == set()


def _wait_until(count: Callable[[], int], at_least: int) -> None:
    for _ in range(3000):
        if count() >= at_least:
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def _die_at(point: str) -> Failpoint:
    return _once_at(point, lambda: os.kill(os.getpid(), signal.SIGKILL))


def _append_and_die(url: str, folder: Path, point: str) -> None:
    with _open(url, folder, _die_at(point)) as store:
        store.append([_event(_ANNA, 2, "e2"), _event(_BERTA, 2)])


def _erase_and_die(url: str, folder: Path, point: str) -> None:
    with _open(url, folder, _die_at(point)) as store:
        store.erase(_ANNA)


def _killed(target: Callable[[str, Path, str], None], url: str, folder: Path, point: str) -> None:
    process = _processes.Process(target=target, args=(url, folder, point))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("point", FAILPOINTS["append"])
def test_an_append_that_is_killed_anywhere_is_stored_whole_or_not_at_all(
    database_url: str, tmp_path: Path, open_store: Open, point: str
) -> None:
    """What was stored before is there, and the same append again ends with each event once."""
    open_store().append([_event(_ANNA, 1, "e1")])
    _killed(_append_and_die, database_url, tmp_path, point)
    store = open_store()
    committed = point == "append: after commit"
    assert (_times(store), _times(store, _BERTA)) == (([1, 2], [2]) if committed else ([1], []))
    assert store.append([_event(_ANNA, 1, "e1"), _event(_ANNA, 2, "e2")]) == (0 if committed else 1)
    assert _times(store) == [1, 2]
    assert store.quarantined == frozenset()


@pytest.mark.parametrize("point", FAILPOINTS["erase"])
def test_an_erasure_that_is_killed_anywhere_can_be_completed_and_touches_nobody_else(
    database_url: str, tmp_path: Path, open_store: Open, point: str
) -> None:
    """Before the keys are destroyed all is still there; from then on nothing can be read; a repetition clears up."""
    open_store().append([_event(_ANNA, 1, "e1"), _event(_BERTA, 1)])
    _killed(_erase_and_die, database_url, tmp_path, point)
    store = open_store()
    assert _times(store) == ([1] if point in ("erase: locked", "erase: rows deleted") else [])
    assert store.append([_event(_ANNA, 2)]) == 1
    assert _times(store)[-1] == 2
    assert store.erase(_ANNA) >= 1
    fresh = open_store()
    assert (fresh.shoppers(), _times(fresh, _BERTA)) == ([_BERTA], [1])
    assert fresh.append([_event(_ANNA, 1, "e1")]) == 1
    assert fresh.quarantined == frozenset()
