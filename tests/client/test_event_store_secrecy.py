"""What lies on the disk tells nothing, and what was tampered with is neither believed nor in the way."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from client.errors import ErasureIncomplete
from client.events import Event
from client.store import EventStore
from client.store_reading import Quarantine
from privacy import schema as tables
from privacy.database import open_engine, reading, writing
from privacy.errors import DamagedDataKeys
from privacy.keyring import Keyring

_SHOPPERS = [f"{number:032x}" for number in range(4)]
_ANNA, _BERTA = _SHOPPERS[:2]


def _event(shopper: str, number: int) -> Event:
    return Event(shopper=shopper, item_id=f"item-{number}", kind="view", timestamp=number)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[EventStore]:
    """A store with four shoppers, each with three rows of two events."""
    with EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "devices") as store:
        for first in (0, 2, 4):
            store.append([_event(shopper, first + more) for shopper in _SHOPPERS for more in (0, 1)])
        yield store


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A way into the database past the store."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def keys(store: EventStore, tmp_path: Path) -> Iterator[Engine]:
    """A way into the keyring's database past the keyring."""
    engine = open_engine(tmp_path / "keys" / "keys.db", create=False)
    yield engine
    engine.dispose()


def _read(engine: Engine, table: Any, column: str, **key: Any) -> Any:
    query = select(table.c[column]).where(*(table.c[name] == value for name, value in key.items()))
    with reading(engine) as connection:
        return connection.execute(query).scalar_one()


def _write(engine: Engine, table: Any, column: str, value: Any, **key: Any) -> None:
    change = table.update().where(*(table.c[name] == value for name, value in key.items()))
    with writing(engine) as connection:
        assert connection.execute(change.values({column: value})).rowcount == 1


def _times(store: EventStore, shopper: str) -> list[int]:
    return [event.timestamp for event in store.history(shopper)]


def test_a_damaged_row_is_named_and_everything_else_is_served(store: EventStore, engine: Engine) -> None:
    """One flipped bit costs one envelope, on every way out, and it is counted once."""
    sealed = bytearray(_read(engine, tables.events, "sealed", shopper=_ANNA, number=1))
    sealed[-1] ^= 1
    _write(engine, tables.events, "sealed", bytes(sealed), shopper=_ANNA, number=1)
    assert _times(store, _ANNA) == [0, 1, 4, 5]
    assert _times(store, _BERTA) == [0, 1, 2, 3, 4, 5]
    assert len(store.read_columns()) == 22
    assert sum(len(own) for _, own in store.scan()) == 22
    assert store.quarantined == {f"events/{_ANNA}/1"}


def test_a_row_whose_pseudonym_or_number_was_damaged_is_named_and_all_others_are_served(
    store: EventStore, engine: Engine
) -> None:
    """What is no pseudonym any more is in nobody's way; a row under another number does not open there."""
    _write(engine, tables.events, "shopper", "q" + _ANNA[1:], shopper=_ANNA, number=1)
    _write(engine, tables.events, "number", 9, shopper=_BERTA, number=2)
    assert len(store.read_columns()) == sum(len(own) for _, own in store.scan()) == 20
    assert _times(store, _ANNA) == [0, 1, 4, 5]
    assert store.quarantined == {f"events/q{_ANNA[1:]}/1", f"events/{_BERTA}/9"}


def test_no_flipped_bit_and_no_moved_ciphertext_is_ever_believed(store: EventStore, engine: Engine) -> None:
    """Random flips, cuts and swaps between rows: what is served was written, what is missing is named."""
    rng = random.Random(20)
    with reading(engine) as connection:
        query = select(tables.events.c.shopper, tables.events.c.number, tables.events.c.sealed)
        original = {(row.shopper, row.number): bytes(row.sealed) for row in connection.execute(query)}
    for _ in range(60):
        here, there = rng.sample(sorted(original), 2)
        sealed = bytearray(original[rng.choice([here, there])])
        if bytes(sealed) == original[here]:
            sealed[rng.randrange(len(sealed))] ^= 1 << rng.randrange(8)
        _write(engine, tables.events, "sealed", bytes(sealed), shopper=here[0], number=here[1])
        store._quarantine = Quarantine()
        expected = [number for number in range(6) if number // 2 != here[1]]
        assert _times(store, here[0]) == expected
        assert store.quarantined == {f"events/{here[0]}/{here[1]}"}
        _write(engine, tables.events, "sealed", original[here], shopper=here[0], number=here[1])
    assert len(store.read_columns()) == 24


def test_a_row_given_to_another_shopper_or_holder_is_refused(
    store: EventStore, keys: Engine, engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """Rows together with their data keys, renamed to another shopper or another merchant, do not open there."""
    stranger, other = "f" * 32, EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "shop-2")
    for database, table in ((engine, tables.events), (keys, tables.data_keys)):
        with writing(database) as connection:
            connection.execute(table.update().where(table.c.shopper == _ANNA).values(shopper=stranger))
            connection.execute(table.update().where(table.c.shopper == _BERTA).values(holder="shop-2"))
    assert store.history(stranger) == []
    assert other.history(_BERTA) == []
    assert store.quarantined == {f"events/{stranger}/{number}" for number in range(3)}
    assert other.quarantined == {f"events/{_BERTA}/{number}" for number in range(3)}
    other.close()


def test_a_data_key_cannot_be_swapped_between_shoppers(
    keys: Engine, store: EventStore, database_url: str, tmp_path: Path
) -> None:
    """Under another shopper's wrapped key rows are quarantined, and writing is refused for that shopper only."""
    wrapped = _read(keys, tables.data_keys, "wrapped", shopper=_BERTA)
    _write(keys, tables.data_keys, "wrapped", wrapped, shopper=_ANNA)
    with EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "devices") as store:
        assert store.history(_ANNA) == []
        assert store.quarantined == {f"events/{_ANNA}/{number}" for number in range(3)}
        with pytest.raises(DamagedDataKeys, match="data_keys"):
            store.append([_event(_BERTA, 9), _event(_ANNA, 9)])
        assert _times(store, _BERTA) == [0, 1, 2, 3, 4, 5], "a refused batch leaves nothing behind"
        assert store.append([_event(_BERTA, 9)]) == 1


def test_rows_without_their_key_are_named_and_the_shopper_goes_on_with_a_fresh_one(
    keys: Engine, store: EventStore, database_url: str, tmp_path: Path
) -> None:
    """A key that was lost costs what it sealed: all else is served, and new events are stored and found."""
    with writing(keys) as connection:
        connection.execute(tables.data_keys.delete().where(tables.data_keys.c.shopper == _BERTA))
    with EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "devices") as store:
        assert store.append([_event(_BERTA, 9)]) == 1
        assert _times(store, _BERTA) == [9]
        assert store.quarantined == {f"events/{_BERTA}/{number}" for number in range(3)}
        assert len(store.read_columns()) == 19


def test_a_quarantined_row_is_logged_once_by_its_name(
    store: EventStore, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning per row however often it is met: which one and why, and nothing of what it held."""
    sealed = bytearray(_read(engine, tables.events, "sealed", shopper=_ANNA, number=1))
    sealed[-1] ^= 1
    _write(engine, tables.events, "sealed", bytes(sealed), shopper=_ANNA, number=1)
    _write(engine, tables.events, "sealed", b"short", shopper=_BERTA, number=2)
    for _ in range(3):
        store.read_columns()
    found = [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == "fedrank.store"
    ]
    assert len(found) == 2
    assert [level for level, _ in found] == ["WARNING"] * 2
    for (_, message), name in zip(found, (f"events/{_ANNA}/1", f"events/{_BERTA}/2"), strict=True):
        assert name in message and "item" not in message


@pytest.mark.parametrize(
    ("column", "flip"), [("key_id", 1), ("key_id", 1 << 40), ("next_number", 3), ("next_number", 1 << 62)]
)
def test_a_flipped_bit_in_a_shoppers_row_costs_nothing(
    store: EventStore, engine: Engine, column: str, flip: int
) -> None:
    """Another key id, or another number for the next row: what was stored is served, and so is what comes after."""
    there = _read(engine, tables.shoppers, column, shopper=_ANNA)
    _write(engine, tables.shoppers, column, there ^ flip, shopper=_ANNA)
    assert store.append([_event(_ANNA, 6), _event(_BERTA, 6)]) == 2
    assert store.append([_event(_ANNA, 7)]) == 1
    assert _times(store, _ANNA) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert _times(store, _BERTA) == [0, 1, 2, 3, 4, 5, 6]
    assert store.quarantined == frozenset()


def test_rows_of_an_erased_shopper_stay_unreadable_when_they_are_put_back(
    store: EventStore, engine: Engine
) -> None:
    """Ciphertext restored after an erasure does not open under the key that the shopper's new events got."""
    old = _read(engine, tables.events, "sealed", shopper=_ANNA, number=0)
    store.erase(_ANNA)
    store.append([_event(_ANNA, 7)])
    row = {"holder": "devices", "shopper": _ANNA, "number": 5, "sealed": old}
    with writing(engine) as connection:
        connection.execute(tables.events.insert().values(row))
    assert _times(store, _ANNA) == [7]
    assert store.quarantined == {f"events/{_ANNA}/5"}


def _found(folder: Path, needles: list[bytes]) -> set[bytes]:
    """Scan every file under a folder and return the needles that it holds in the clear."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {needle for needle in needles if any(needle in content for content in contents)}


def test_no_plaintext_of_an_event_or_shopper_is_in_any_file(tmp_path: Path) -> None:
    """Canaries in every field are nowhere in database, log or key files; planted ones are found by the scan."""
    keyring = Keyring.open(tmp_path / "keys")
    pseudonym = keyring.holder("devices").pseudonymiser.of("canary-shopper-5a1")
    names = ("item_id", "surface", "ranking_id", "merchant_id", "event_id")
    canaries: dict[str, Any] = {name: f"canary-{name}-7f3" for name in names}
    event = Event(shopper=pseudonym, kind="canary_kind", timestamp=1234567890123, price=98765.43, **canaries)
    needles = [text.encode() for text in (*canaries.values(), "canary", "1234567890123", "98765.43")]
    with EventStore.open(tmp_path / "events.db", keyring, "devices") as store:
        store.append([event])
        store.append_columns(
            [pseudonym] * 100, [canaries["item_id"]] * 100, ["canary_kind"] * 100, [1234567890123] * 100
        )
        files = {path.name for path in tmp_path.iterdir()}
        assert {"events.db", "events.db-wal", "keys"} <= files
        assert _found(tmp_path, needles) == set()
        assert _found(tmp_path, [pseudonym.encode()]), "the scan reads what is there"
    assert _found(tmp_path, needles) == set()
    (tmp_path / "planted.log").write_bytes(b"\0" * 5000 + b"|".join(needles))
    assert _found(tmp_path, needles) == set(needles)


def test_after_an_erasure_no_byte_of_the_shopper_is_left_in_the_files(tmp_path: Path) -> None:
    """Pseudonym, wrapped key and ciphertexts are found before and in no file after; the log is empty."""
    with EventStore.open(tmp_path / "events.db", Keyring.open(tmp_path / "keys"), "devices") as store:
        store.append([_event(shopper, number) for shopper in (_ANNA, _BERTA) for number in range(300)])
        engine = open_engine(tmp_path / "events.db")
        with reading(engine) as connection:
            own = tables.events.c.shopper == _BERTA
            sealed = list(connection.execute(select(tables.events.c.sealed).where(own)).scalars())
        keys = open_engine(tmp_path / "keys" / "keys.db", create=False)
        remains = [_BERTA.encode(), _read(keys, tables.data_keys, "wrapped", shopper=_BERTA)]
        keys.dispose()
        # Long values are split over pages, so pieces of them are looked for.
        remains += [value[place : place + 48] for value in sealed for place in range(0, len(value) - 48, 480)]
        engine.dispose()
        assert _found(tmp_path, remains) == set(remains)
        store.erase(_BERTA)
        assert _found(tmp_path, remains) == set()
        assert (tmp_path / "events.db-wal").stat().st_size == 0
        assert len(store.history(_ANNA)) == 300


def test_an_erasure_that_left_copies_in_the_log_says_so_and_can_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of an older state keeps the log; when it has gone, erasing again empties it."""
    monkeypatch.setattr("privacy.sqlite.BUSY_SECONDS", 0.1)
    with EventStore.open(tmp_path / "events.db", Keyring.open(tmp_path / "keys"), "devices") as store:
        store.append([_event(_ANNA, 1)])
        engine = open_engine(tmp_path / "events.db")
        with reading(engine) as connection:
            connection.execute(select(tables.events)).all()
            with pytest.raises(ErasureIncomplete, match="erase again"):
                store.erase(_ANNA)
            assert store.history(_ANNA) == []
        assert store.erase(_ANNA) == 0
        assert (tmp_path / "events.db-wal").stat().st_size == 0
        engine.dispose()


def test_the_database_file_and_its_logs_belong_to_their_owner_alone(tmp_path: Path) -> None:
    """Mode 0600 for the file and whatever SQLite puts beside it."""
    with EventStore.open(tmp_path / "events.db", Keyring.open(tmp_path / "keys"), "devices") as store:
        store.append([_event(_ANNA, 1)])
        files = list(tmp_path.glob("events.db*"))
        assert len(files) == 3
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
