"""The event store: gives back what it was told, in order, once, per holder, on SQLite and on PostgreSQL."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import store_sqlite
from client.errors import InvalidEvent, StoreFull, StoreUnavailable, WrongKeys
from client.events import Columns, Event
from client.store import EventStore
from client.store_rows import START
from privacy.database import open_engine, writing
from privacy.keyring import Keyring
from privacy.pseudonyms import NotAPseudonym
from privacy.schema import REVISION_TABLE

_processes = multiprocessing.get_context("forkserver")
_ANNA, _BERTA, _CLARA = (f"{number:032x}" for number in range(3))

_texts = st.none() | st.text(min_size=1, max_size=10)
_amounts = st.none() | st.floats(allow_nan=False, allow_infinity=False)
_events = st.builds(
    Event,
    shopper=st.sampled_from([_ANNA, _BERTA, _CLARA]),
    item_id=st.text(min_size=1, max_size=10),
    kind=st.sampled_from(["view", "add_to_cart", "impression"]),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    surface=_texts,
    quantity=_amounts,
    price=_amounts,
    ranking_id=_texts,
    merchant_id=_texts,
)


def _view(shopper: str, item: str, timestamp: int, event_id: str | None = None) -> Event:
    return Event(shopper=shopper, item_id=item, kind="view", timestamp=timestamp, event_id=event_id)


def _open(url: str, tmp_path: Path, holder: str = "devices") -> EventStore:
    return EventStore.open(url, Keyring.open(tmp_path / "keys"), holder)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[EventStore]:
    """A new store on each kind of database."""
    with _open(database_url, tmp_path) as store:
        yield store


def test_a_history_comes_back_oldest_first_and_whole(store: EventStore) -> None:
    """Every field survives; events of one second keep the order in which they were stored."""
    full = Event(
        shopper=_ANNA,
        item_id="lamp 灯",
        kind="purchase",
        timestamp=50,
        surface="home",
        quantity=2.0,
        price=9.99,
        ranking_id="rank-1",
        merchant_id="shop-1",
        event_id="e-1",
        propensity=0.125,
    )
    assert store.append([_view(_ANNA, "late", 90), full, _view(_BERTA, "other", 1)]) == 3
    assert store.append([_view(_ANNA, "same-second", 50)]) == 1
    assert store.append([_view(_ANNA, "first", 10)]) == 1
    assert store.history(_ANNA) == [
        _view(_ANNA, "first", 10),
        full,
        _view(_ANNA, "same-second", 50),
        _view(_ANNA, "late", 90),
    ]
    assert store.shoppers() == [_ANNA, _BERTA]
    assert store.quarantined == frozenset()


def test_an_unknown_shopper_has_an_empty_history(store: EventStore) -> None:
    """Nobody is an error: a shopper without events is simply new."""
    assert store.history(_CLARA) == []
    assert store.shoppers() == []
    assert list(store.scan()) == []
    assert store.append([]) == 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_events, max_size=30))
def test_reading_all_ways_gives_what_was_written_both_ways(tmp_path: Path, events: list[Event]) -> None:
    """Event by event or in columns, in and out: the same events, stably sorted by shopper and time."""
    expected = sorted(events, key=lambda event: (event.shopper, event.timestamp))
    with _open(str(tmp_path / "t.db"), tmp_path) as store:
        for shopper in store.shoppers():
            store.erase(shopper)
        store.append(events[: len(events) // 2])
        rest = Columns.of(events[len(events) // 2 :])
        store.append_columns(
            rest.shopper,
            rest.item_id,
            rest.kind,
            rest.timestamp,
            quantities=rest.quantity,
            prices=rest.price,
            merchant_ids=rest.merchant_id,
            ranking_ids=rest.ranking_id,
            surfaces=rest.surface,
        )
        assert list(store.read_columns().events()) == expected
        assert [event for _, own in store.scan() for event in own] == expected
        assert store.history(_BERTA) == [event for event in expected if event.shopper == _BERTA]


def test_many_events_of_many_shoppers_are_read_page_by_page(store: EventStore) -> None:
    """More shoppers than one page and more events than one envelope: none is lost, chosen shoppers alone come."""
    shoppers = [f"{number:032x}" for number in range(1500)]
    named = shoppers + [_ANNA] * 200
    items = [f"item-{position}" for position in range(len(named))]
    assert store.append_columns(named, items, ["view"] * len(named), list(range(len(named)))) == 1700
    assert sorted(store.read_columns().item_id) == sorted(items)
    assert [event.item_id for event in store.history(_ANNA)] == ["item-0", *items[1500:]]
    some = store.read_columns([shoppers[1400], shoppers[7], "f" * 32])
    assert (some.shopper, some.item_id) == ([shoppers[7], shoppers[1400]], ["item-7", "item-1400"])
    assert len(dict(store.scan())) == 1500


def test_a_history_is_looked_up_and_not_searched_for(tmp_path: Path) -> None:
    """SQLite goes to each shopper's rows by the index, however many others there are, and sorts nothing."""
    with _open(str(tmp_path / "t.db"), tmp_path) as store, store.access.reading() as connection:
        values = ("devices", "[]", *START, 1)
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {store_sqlite._FETCH}", values)
        words = " ".join(row[-1] for row in plan)
    assert "(holder=? AND shopper=?)" in words
    assert "TEMP B-TREE" not in words


def test_an_event_with_an_id_is_stored_once(store: EventStore) -> None:
    """A repetition in one batch, in a later one or in columns counts nothing; another shopper's same id does."""
    assert store.append([_view(_ANNA, "a", 1, "e1"), _view(_ANNA, "a", 1, "e1"), _view(_ANNA, "b", 2)]) == 2
    assert store.append([_view(_ANNA, "a", 1, "e1"), _view(_ANNA, "c", 3, "e2")]) == 1
    assert store.append([_view(_BERTA, "a", 1, "e1")]) == 1
    assert store.append_columns([_ANNA] * 2, ["a", "d"], ["view"] * 2, [1, 4], event_ids=["e1", "e4"]) == 1
    assert [event.item_id for event in store.history(_ANNA)] == ["a", "b", "c", "d"]


def test_holders_in_one_database_see_only_their_own_shoppers(database_url: str, tmp_path: Path) -> None:
    """Two merchants share a file, and not even one shopper's pseudonym."""
    keyring = Keyring.open(tmp_path / "keys")
    one, other = (
        EventStore.open(database_url, keyring, "shop-1"),
        EventStore.open(database_url, keyring, "shop-2"),
    )
    first, second = (keyring.holder(name).pseudonymiser.of("anna") for name in ("shop-1", "shop-2"))
    one.append([_view(first, "lamp", 1, "e1")])
    other.append([_view(second, "soap", 2, "e1")])
    assert (one.shoppers(), other.shoppers()) == ([first], [second])
    assert one.history(second) == []
    assert one.erase(second) == 0
    assert [event.item_id for event in other.history(second)] == ["soap"]
    one.close()
    other.close()


def test_what_is_not_a_pseudonym_never_gets_in(store: EventStore) -> None:
    """A shopper's own id is refused on every way in, and the refusal does not repeat it."""
    with pytest.raises(NotAPseudonym) as refusal:
        store.append([_view("anna@example.com", "a", 1)])
    assert "anna" not in str(refusal.value)
    with pytest.raises(NotAPseudonym):
        store.append_columns(["anna"], ["a"], ["view"], [1])
    with pytest.raises(NotAPseudonym):
        store.erase("anna")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("item_id", ""),
        ("item_id", "x" * 1025),
        ("item_id", "\ud800"),
        ("kind", "View"),
        ("kind", ""),
        ("timestamp", 2**63),
        ("timestamp", 1.5),
        ("price", float("nan")),
        ("quantity", float("inf")),
        ("surface", ""),
        ("event_id", 7),
    ],
)
def test_an_event_with_an_impossible_value_is_refused_by_field(
    store: EventStore, field: str, value: Any
) -> None:
    """One by one and in columns, the error names the field, and nothing is stored."""
    good: dict[str, Any] = {"shopper": _ANNA, "item_id": "a", "kind": "view", "timestamp": 1}
    with pytest.raises(InvalidEvent, match=field):
        Event(**(good | {field: value}))
    names = {"price": "prices", "quantity": "quantities"}
    names |= {name: name + "s" for name in ("shopper", "item_id", "kind", "timestamp", "surface", "event_id")}
    columns: dict[str, Any] = {names[name]: [content] for name, content in (good | {field: value}).items()}
    with pytest.raises(InvalidEvent, match=field):
        store.append_columns(**columns)
    assert store.shoppers() == []


def test_columns_of_unequal_length_are_refused(store: EventStore) -> None:
    """A column that is too short would move values to other events."""
    with pytest.raises(InvalidEvent, match="item_id has 1 values"):
        store.append_columns([_ANNA, _ANNA], ["a"], ["view", "view"], [1, 2])


def test_a_batch_with_a_bad_event_leaves_nothing_behind(store: EventStore) -> None:
    """A batch is stored whole or not at all."""
    with pytest.raises(NotAPseudonym):
        store.append([_view(_ANNA, "a", 1), _view("nobody", "b", 2)])
    assert store.history(_ANNA) == []


def test_an_erased_shopper_is_gone_and_may_come_back_anew(store: EventStore) -> None:
    """Erasing deletes one shopper's events and ids, counts the rows, and spares everybody else."""
    store.append([_view(_ANNA, "a", 1, "e1"), _view(_BERTA, "b", 2)])
    store.append([_view(_ANNA, "c", 3)])
    assert store.erase(_ANNA) == 2
    assert store.erase(_ANNA) == 0
    assert store.history(_ANNA) == []
    assert store.shoppers() == [_BERTA]
    assert store.append([_view(_ANNA, "a", 1, "e1")]) == 1
    assert [event.item_id for event in store.history(_ANNA)] == ["a"]


def test_a_store_is_refused_to_other_keys(database_url: str, tmp_path: Path) -> None:
    """A wrong keyring is one clear error instead of a store full of damage."""
    _open(database_url, tmp_path).close()
    with pytest.raises(WrongKeys, match="other keys"):
        EventStore.open(database_url, Keyring.open(tmp_path / "other-keys"), "devices")


def test_a_store_of_a_newer_version_is_refused(database_url: str, tmp_path: Path) -> None:
    """A schema from the future is refused in one line that says what to do."""
    _open(database_url, tmp_path).close()
    engine = open_engine(database_url)
    with writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE {REVISION_TABLE} SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreUnavailable, match=r"revision '9999'.*update fedrank"):
        _open(database_url, tmp_path)


def test_a_full_disk_is_a_clear_error_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not grow refuses a batch as a whole; what was stored before is served."""
    monkeypatch.setattr("privacy.sqlite._PRAGMAS", ("synchronous=FULL", "max_page_count=40"))
    with _open(str(tmp_path / "events.db"), tmp_path) as store:
        store.append([_view(_ANNA, "a", 1)])
        with pytest.raises(StoreFull, match="reading goes on"):
            store.append([_view(_BERTA, f"item-{number}" * 50, number) for number in range(1000)])
        assert store.shoppers() == [_ANNA]
        assert store.append([_view(_ANNA, "b", 2)]) == 1
        assert [event.item_id for event in store.history(_ANNA)] == ["a", "b"]


def test_a_server_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """The error says which database does not answer and what to look at, in one line."""
    with pytest.raises(StoreUnavailable, match="does not answer: check host") as refusal:
        _open(f"postgresql://fedrank:secret@/events?host={tmp_path}", tmp_path)
    assert "secret" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_store_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(StoreUnavailable, match="nowhere"):
        _open(str(tmp_path / "nowhere" / "events.db"), tmp_path)


def _append_many(url: str, tmp_path: Path, writer: int) -> None:
    with _open(url, tmp_path) as store:
        for number in range(25):
            batch = [
                _view(_ANNA, f"own-{writer}-{number}", number),
                _view(_BERTA, "shared", number, f"e{number}"),
            ]
            store.append(batch[:: (-1) ** writer])


def test_processes_that_write_at_once_lose_and_double_nothing(database_url: str, tmp_path: Path) -> None:
    """Three processes create the store, write one shopper's rows and race for the same event ids."""
    processes = [_processes.Process(target=_append_many, args=(database_url, tmp_path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with _open(database_url, tmp_path) as store:
        own = [event.item_id for event in store.history(_ANNA)]
        assert sorted(own) == sorted(f"own-{writer}-{number}" for writer in range(3) for number in range(25))
        assert [event.timestamp for event in store.history(_BERTA)] == list(range(25))
        assert store.quarantined == frozenset()


def test_writers_that_bring_the_same_events_in_opposite_order_do_not_block_each_other(
    store: EventStore,
) -> None:
    """Two threads race with batches of the same ids, one of them backwards: each event is stored once."""
    together = threading.Barrier(2)

    def bring(step: int) -> int:
        stored = 0
        for number in range(10):
            batch = [_view(_ANNA, "a", number, f"{number}/{place}") for place in range(200)]
            together.wait(60)
            stored += store.append(batch[::step])
        return stored

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(bring, (1, -1))) == 2000
    assert [event.timestamp for event in store.history(_ANNA)] == sorted(list(range(10)) * 200)


def _append_for_ever(url: str, tmp_path: Path, acknowledged: str) -> None:
    with _open(url, tmp_path) as store, Path(acknowledged).open("a") as log:
        for number in range(1_000_000):
            store.append([_view(_ANNA, f"item-{number}", number, f"e{number}"), _view(_BERTA, "x", number)])
            print(number, file=log, flush=True)


def test_a_killed_writer_loses_no_acknowledged_event(database_url: str, tmp_path: Path) -> None:
    """kill -9 in the middle of appending: whatever was acknowledged is there once, batches are whole."""
    acknowledged = tmp_path / "acknowledged"
    process = _processes.Process(target=_append_for_ever, args=(database_url, tmp_path, str(acknowledged)))
    process.start()
    for _ in range(600):
        if acknowledged.exists() and len(acknowledged.read_text().splitlines()) > 20:
            break
        time.sleep(0.05)
    os.kill(int(process.pid or 0), signal.SIGKILL)
    process.join(60)
    count = len(acknowledged.read_text().splitlines())
    assert count > 20
    with _open(database_url, tmp_path) as store:
        stored = [event.timestamp for event in store.history(_ANNA)]
        assert stored == list(range(len(stored)))
        assert len(stored) in (count, count + 1)
        assert len(store.history(_BERTA)) == len(stored)
        assert store.append([_view(_ANNA, "item-0", 0, "e0")]) == 0
