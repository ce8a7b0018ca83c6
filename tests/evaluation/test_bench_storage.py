"""The storage bench: both sides hold the same events, in turn, and a side that loses any has no figure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from client.store import EventStore
from evaluation.bench import pairs, postgres, storage, storage_online, storage_single
from evaluation.bench import storage_world as world
from evaluation.bench.pairs import Pairs, in_turn
from evaluation.bench.storage import Sizes, rows_on
from evaluation.bench.storage_bulk import EventsLost, NewDatabase, append_pairs, new_sqlite, read_pairs
from evaluation.bench.storage_charges import NotCharged, charge_seconds
from evaluation.bench.storage_load import LoadFailed, Seen, Spec, load_on, paced, run
from evaluation.bench.storage_online import Online, Spell, Spells, check_all_there, online
from evaluation.bench.storage_single import erasure_seconds, single_appends
from evaluation.errors import SettingsError
from evaluation.settings import Watch
from privacy.ledger import Ledger

TINY = Sizes(
    events=200,
    shoppers=10,
    pairs=1,
    hard_pairs=1,
    charged=20,
    charges=2,
    erased=2,
    erased_events=70,
    online_shoppers={storage.SQLITE: 2, storage.POSTGRESQL: 2},
    rotating_s=0.5,
    single_s=0.1,
)


@pytest.fixture
def new(database_url: str) -> NewDatabase:
    """Empty databases of one kind; the first is that of the fixture, and so are all others on PostgreSQL."""

    @contextmanager
    def one() -> Iterator[str]:
        yield database_url

    return one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store of the bench's holder."""
    with world.store_at(f"sqlite:///{tmp_path}/store.db", tmp_path / "keys") as store:
        yield store


def test_every_record_has_two_hundred_bytes_and_no_two_are_alike() -> None:
    """Plain rows hold what our events hold; an id of its own can be given to each."""
    columns = world.events_of(world.pseudonyms(7), 30)
    columns.check()
    found = list(world.records(columns))
    assert {len(record) for record in found} == {world.RECORD_BYTES}
    assert len(set(found)) == len(columns) == 210
    rows = world.plain_rows(columns)
    assert [row["payload"] for row in rows] == found and [row["shopper"] for row in rows] == columns.shopper
    assert len(set(world.with_ids(columns).event_id)) == 210


def test_both_sides_give_back_what_they_were_given(tmp_path: Path, store: EventStore) -> None:
    """Ours with every field, the plain side with every byte."""
    columns = world.events_of(world.pseudonyms(5), 40)
    assert world.append(store, columns) > 0
    assert world.read_ours(store)[1] == 200
    assert set(world.records(store.read_columns())) == set(world.records(columns))
    with world.plain_at(f"sqlite:///{tmp_path}/plain.db") as engine:
        assert world.insert_plainly(engine, world.plain_rows(columns)) > 0
        assert world.read_plainly(engine)[1] == 200


def test_a_ratio_is_of_our_speed_to_theirs_by_the_median_pair() -> None:
    """Half of their seconds is a ratio of two; one disturbed pair moves nothing but the lowest."""
    found = Pairs(work=100, ours=(1.0, 1.0, 9.0), theirs=(2.0, 2.0, 2.0))
    assert found.ratio == 2.0
    rows = {row.measure: row for row in found.rows("append", "events", 2.5)}
    assert rows["append: ours / plain"].met is False
    assert rows["append: lowest pair"].value == pytest.approx(2 / 9)
    assert (rows["append: ours"].value, rows["append: plain"].value) == (100.0, 50.0)


def test_both_sides_take_turns_in_going_first() -> None:
    """So that neither always finds the disk as the other left it."""
    order: list[str] = []

    def side(name: str, seconds: float) -> pairs.Side:
        def act() -> float:
            order.append(name)
            return seconds

        return act

    found = in_turn(10, side("ours", 1.0), side("plain", 3.0), 3)
    assert order == ["plain", "ours", "ours", "plain", "plain", "ours"]
    assert found.ratio == 3.0
    with pytest.raises(SettingsError, match="pairs is 0"):
        in_turn(10, side("ours", 1.0), side("plain", 1.0), 0)


def test_bulk_paths_are_measured_on_both_sides() -> None:
    """A pair each, in databases of their own."""
    columns = world.events_of(world.pseudonyms(5), 20)
    for found in (append_pairs(new_sqlite, columns, 1), read_pairs(new_sqlite, columns, 1)):
        assert found.work == 100 and found.ratio > 0


def test_a_side_that_loses_events_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a store that forgets what it was given is fast and says nothing."""
    monkeypatch.setattr(world, "append", lambda store, columns: 0.001)
    with pytest.raises(EventsLost, match="20 events were stored and 0 came back"):
        read_pairs(new_sqlite, world.events_of(world.pseudonyms(2), 10), 1)
    monkeypatch.setattr(EventStore, "append", lambda self, events: len(list(events)))
    with pytest.raises(EventsLost, match="single events"):
        single_appends(new_sqlite, 2, 0.05)


def test_an_erasure_is_timed_and_what_could_still_be_read_is_counted(
    new: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing after a true one, also of rows that were put back; everything after one that does nothing."""
    seconds, readable = erasure_seconds(new, 3, 70)
    assert len(seconds) == 3 and min(seconds) > 0 and readable == 0
    monkeypatch.setattr(EventStore, "erase", lambda self, shopper: 0)
    monkeypatch.setattr(storage_single, "put_back", lambda engine, rows: None)
    assert erasure_seconds(new_sqlite, 1, 70)[1] == 2 + 70 + 70


def test_charges_are_timed_and_a_ledger_that_forgets_one_is_noticed(
    new: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many figures as charges; planted: the second charge is acknowledged and not made."""
    assert len(charge_seconds(new, 20, 3)) == 3
    reserve = Ledger.reserve
    monkeypatch.setattr(
        Ledger, "reserve", lambda self, charge, *rest: charge.round == 1 or reserve(self, charge, *rest)
    )
    with pytest.raises(NotCharged, match="20 of 20 accounts"):
        charge_seconds(new_sqlite, 20, 3)


def test_an_operation_that_waits_behind_a_slow_one_counts_as_slow_and_a_fault_is_kept() -> None:
    """Latency runs from when it was due; the load goes on after a fault."""
    stop = threading.Event()

    def act(number: int) -> None:
        if number == 0:
            stop.wait(0.3)
        if number == 3:
            stop.set()
            raise ValueError("planted")

    found = list(paced(20.0, stop, act))
    assert len(found) == 4
    assert found[1][1] > 0.2, "it was due 0.05 s after the first, and had to wait"
    assert [fault for _, _, fault in found] == ["", "", "", "ValueError: planted"]


def test_a_load_reads_and_writes_and_counts_what_fails(store: EventStore, tmp_path: Path) -> None:
    """Reads that find too few events are failures, with what was wrong; writes are acknowledged by their ids."""
    world.append(store, world.events_of(world.pseudonyms(3), 2))
    spec = Spec(
        url=f"sqlite:///{tmp_path}/store.db",
        keys=str(tmp_path / "keys"),
        shoppers=3,
        events=2,
        reads=100.0,
        writes=50.0,
    )
    pause = threading.Event()
    seen = run(spec, lambda: pause.wait(0.4))
    assert seen.faults() == [] and len(seen.reads) > 20 and len(seen.acknowledged) == len(seen.writes) > 10
    assert len(store.read_columns()) == 6 + len(seen.acknowledged)
    missed = run(replace(spec, events=1000), lambda: pause.wait(0.2))
    assert len(missed.faults()) == len(missed.reads) > 0
    assert "1000 were stored" in missed.faults()[0]


def test_a_load_that_cannot_begin_is_an_error(tmp_path: Path) -> None:
    """Not a load without failures: here its keys are a file."""
    (tmp_path / "keys").write_bytes(b"")
    spec = Spec(url=f"sqlite:///{tmp_path}/store.db", keys=str(tmp_path / "keys"), shoppers=1, events=1)
    with pytest.raises(LoadFailed, match="ended with code 1"), load_on(spec) as load:
        load.stop()


def test_a_re_encryption_under_load_loses_nothing_and_says_what_was_felt(
    new: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two calm spells; every acknowledged write of the load is there afterwards."""
    monkeypatch.setattr(storage_online, "WARM_S", 0.1)
    found = online(new, 3, 1.0)
    assert found.rows == 300 and found.seconds > 0
    assert found.seen.faults() == [] and found.operations() > 0
    assert [spell.rotating for spell in found.spells[:3]] == [False, True, False]
    assert found.p99("reads", rotating=False) > 0 and found.p99("writes", rotating=False) > 0


def test_percentiles_are_taken_of_operations_with_and_without_re_encryption() -> None:
    """By the spell in which they were due; what was due before the first is left out."""
    kinds = (False, True, False, True, False)
    spells = tuple(Spell(start=one, end=one + 1.0, rotating=kind) for one, kind in enumerate(kinds, start=1))
    latencies = (0.1, 0.2, 0.1, 0.4, 0.1)
    reads = [(spell.start + 0.5, took, "") for spell, took in zip(spells, latencies, strict=True)] * 10
    found = Online(rows=1, spells=spells, seen=Seen(reads=[*reads, (0.5, 9.0, ""), (6.0, 9.0, "")]))
    assert found.p99("reads", rotating=True) == pytest.approx(0.4)
    assert found.p99("reads", rotating=False) == pytest.approx(0.1)
    assert found.p99_by_spell("reads") == pytest.approx(3.0), "the median of 2 and 4"
    assert found.operations() == 20 and found.seconds == 2.0


def test_a_long_re_encryption_rests_between_its_pages() -> None:
    """After each rotating spell that was long enough, and once more at the end."""
    spells = Spells(0.0, 0.0)
    spells.calm()
    spells.step(None)
    spells.step(None)
    spells.rest()
    assert [spell.rotating for spell in spells.done] == [False, True, False, True, False, True, False]
    patient = Spells(3600.0, 0.0)
    patient.calm()
    patient.step(None)
    assert len(patient.done) == 1


def test_a_lost_or_doubled_event_after_a_re_encryption_ends_the_bench(store: EventStore) -> None:
    """Planted: one more event, one fewer, and an acknowledged write that is not there."""
    world.append(store, world.events_of(world.pseudonyms(3), 2))
    check_all_there(store, 6, [])
    for rows, acknowledged, words in (
        (5, [], "0 events are lost, 1 are doubled"),
        (7, [], "1 events are lost, 0 are doubled"),
        (6, ["load/0/0"], "1 events are lost"),
    ):
        with pytest.raises(EventsLost, match=words):
            check_all_there(store, rows, acknowledged)


def test_a_whole_bench_in_small_gives_every_target_of_both_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios, charges, erasure and re-encryption are held against their targets; words are unique."""
    monkeypatch.setattr(storage_online, "WARM_S", 0.1)
    steps: list[None] = []
    watch = Watch(step=lambda: steps.append(None))
    kinds = (storage.SQLITE, storage.POSTGRESQL)
    found = [row for name in kinds for row in rows_on(name, new_sqlite, TINY, watch)]
    assert len({row.measure for row in found}) == len(found)
    assert len(steps) == 2 * len(storage.MEASURES)
    assert {row.target for row in found} == {None, 0, 0.6, 0.8, 1.0, 1.5, 3.0, 100_000.0}


def test_a_machine_without_postgresql_measures_the_rest_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stands in the name of the stage, and there is one kind of database."""
    monkeypatch.setattr(postgres, "reason_absent", lambda: "PostgreSQL is not installed; run: planted")
    with storage.databases(durable=True) as kinds:
        assert list(kinds) == [storage.SQLITE]
        assert storage.stage_words(kinds) == "on SQLite alone: PostgreSQL is not installed; run: planted"
