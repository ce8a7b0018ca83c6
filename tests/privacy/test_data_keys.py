"""Shopper keys: made once, found again, replaced, destroyed without a trace, in memory for a limited time."""

import multiprocessing
import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.cipher import TOKEN_OVERHEAD
from privacy.data_keys import CACHE_SECONDS, DataKey, DataKeys, place_of
from privacy.errors import DamagedDataKeys
from privacy.keyring import DATABASE_NAME, Keyring
from privacy.timed_cache import TimedCache

_processes = multiprocessing.get_context("forkserver")
_TOKEN_BYTES = TOKEN_OVERHEAD + 32


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the keyring lies."""
    return tmp_path / "keys"


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., DataKeys]]:
    """Open the keyring anew, as another process would, and give the data keys of a holder."""
    keyrings: list[Keyring] = []

    def data_keys(holder: str = "shop-1", clock: Callable[[], float] = time.monotonic) -> DataKeys:
        keyrings.append(Keyring.open(folder, clock=clock))
        return keyrings[-1].holder(holder).data_keys

    yield data_keys
    for keyring in keyrings:
        keyring.close()


def pseudonyms(count: int) -> list[str]:
    """Names as they are stored: 32 hexadecimal characters."""
    return [secrets.token_hex(16) for _ in range(count)]


def names(keys: dict[str, DataKey]) -> list[tuple[str, int]]:
    """The (shopper, key id) of some keys."""
    return [(shopper, key.key_id) for shopper, key in keys.items()]


def sql(folder: Path, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """Run a statement on the keyring's database behind fedrank's back."""
    connection = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)
    try:
        return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()


def test_a_shopper_has_one_key_that_every_process_finds(opened: Callable[..., DataKeys]) -> None:
    """Made by the first question, found by later ones and by others, and different for every shopper."""
    shoppers = pseudonyms(50)
    made = opened().newest([*shoppers, *shoppers])
    other = opened()
    assert other.newest(shoppers) == made
    assert other.find(names(made)) == {(shopper, key.key_id): key.key for shopper, key in made.items()}
    assert len({key.key for key in made.values()}) == 50
    assert all(len(key.key) == 32 and 0 < key.key_id < 2**32 for key in made.values())


def test_the_keys_of_two_holders_have_nothing_in_common(opened: Callable[..., DataKeys]) -> None:
    """A shopper of the same name elsewhere is another shopper."""
    (shopper,) = pseudonyms(1)
    one, two = opened("shop-1"), opened("shop-2")
    (key,), (other,) = one.newest([shopper]).values(), two.newest([shopper]).values()
    assert key.key != other.key
    assert two.find([(shopper, key.key_id)]) == {}
    assert two.destroy(shopper) == 1
    assert opened("shop-1").newest([shopper])[shopper] == key


def test_no_plain_key_is_on_the_disk_and_none_is_printed(
    folder: Path, opened: Callable[..., DataKeys]
) -> None:
    """Neither the files nor the representation of a key hold it."""
    data_keys = opened()
    made = data_keys.newest(pseudonyms(20))
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    for key in made.values():
        assert key.key not in content
        assert key.key.hex() not in repr(key)
    assert repr(data_keys) == "DataKeys('shop-1')"


def test_a_damaged_or_moved_key_is_missing_and_never_replaced(
    folder: Path, opened: Callable[..., DataKeys]
) -> None:
    """Found are the others; asking for the newest names the damaged row instead of making another key."""
    made = opened().newest(sorted(pseudonyms(4)))
    damaged, moved, taken, fine = made
    sql(folder, "UPDATE data_keys SET wrapped = zeroblob(65) WHERE shopper = ?", damaged)
    statement = (
        "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE shopper = ?) WHERE shopper = ?"
    )
    sql(folder, statement, taken, moved)
    other = opened()
    assert {shopper for shopper, _ in other.find(names(made))} == {taken, fine}
    with pytest.raises(DamagedDataKeys, match=f"2 data keys.*data_keys/{damaged}"):
        other.newest(list(made))
    assert sql(folder, "SELECT count(*) FROM data_keys") == [(4,)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8 * _TOKEN_BYTES - 1))
def test_no_flipped_bit_of_a_wrapped_key_is_believed(
    tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    """One bit anywhere in the stored form, and the key is as if it were not there."""
    folder = tmp_path_factory.getbasetemp() / "flipped"
    keyring = Keyring.open(folder)
    made = keyring.holder("shop-1").data_keys.newest(["0" * 32])
    ((wrapped,),) = sql(folder, "SELECT wrapped FROM data_keys")
    assert isinstance(wrapped, bytes)
    flipped = bytearray(wrapped)
    flipped[bit // 8] ^= 1 << bit % 8
    sql(folder, "UPDATE data_keys SET wrapped = ?", bytes(flipped))
    again = Keyring.open(folder)
    assert again.holder("shop-1").data_keys.find(names(made)) == {}
    sql(folder, "UPDATE data_keys SET wrapped = ?", wrapped)
    assert len(again.holder("shop-1").data_keys.find(names(made))) == 1
    keyring.close()
    again.close()


def test_a_further_key_is_the_newest_and_the_old_one_can_be_dropped(opened: Callable[..., DataKeys]) -> None:
    """The generation decides which key new rows use; dropping destroys one key and leaves the other."""
    data_keys, shoppers = opened(), sorted(pseudonyms(3))
    first = data_keys.newest(shoppers)
    assert data_keys.newest_generation() == 1
    assert data_keys.begin_generation() == 2
    second = data_keys.make(shoppers[:2], 2)
    assert opened().newest(shoppers) == {**first, **second}
    own = data_keys.keys_of(shoppers)
    assert own[shoppers[0]] == [(first[shoppers[0]].key_id, 1), (second[shoppers[0]].key_id, 2)]
    assert own[shoppers[2]] == [(first[shoppers[2]].key_id, 1)]
    assert (data_keys.counts().shoppers, data_keys.counts().keys, data_keys.counts().behind) == (3, 5, 3)
    data_keys.drop(names(first)[:2])
    assert data_keys.find([*names(first), *names(second)]).keys() == {*names(first)[2:], *names(second)}
    assert data_keys.make(pseudonyms(1), data_keys.newest_generation()).keys().isdisjoint(shoppers)


def test_a_key_made_after_a_generation_began_belongs_to_it(opened: Callable[..., DataKeys]) -> None:
    """New shoppers need no second key; every process sees the generation at once."""
    data_keys, other = opened(), opened()
    other.newest(pseudonyms(1))
    data_keys.begin_generation()
    (shopper,) = pseudonyms(1)
    other.newest([shopper])
    assert [generation for _, generation in data_keys.keys_of([shopper])[shopper]] == [2]


def test_presence_is_asked_of_the_database_and_not_of_memory(opened: Callable[..., DataKeys]) -> None:
    """A key that another process destroyed is not present, and no longer used here."""
    data_keys, (shopper, stays) = opened(), pseudonyms(2)
    made = data_keys.newest([shopper, stays])
    opened().destroy(shopper)
    assert data_keys.newest([shopper])[shopper] == made[shopper]
    assert data_keys.present(names(made)) == {(stays, made[stays].key_id)}
    assert data_keys.find(names(made)).keys() == {(stays, made[stays].key_id)}
    assert data_keys.newest([shopper])[shopper].key != made[shopper].key


def test_a_plain_key_stays_in_memory_for_a_limited_time(
    folder: Path, opened: Callable[..., DataKeys]
) -> None:
    """Until the time is over the database is not asked; from then on it is."""
    clock = Clock()
    data_keys, (shopper,) = opened(clock=clock), pseudonyms(1)
    made = data_keys.newest([shopper])
    sql(folder, "DELETE FROM data_keys")
    clock.now = CACHE_SECONDS - 1
    assert data_keys.newest([shopper]) == made
    assert len(data_keys.find(names(made))) == 1
    clock.now = CACHE_SECONDS
    assert data_keys.find(names(made)) == {}
    assert data_keys.newest([shopper]) != made


def test_a_cache_holds_no_more_than_it_may_and_forgets_the_oldest_first() -> None:
    """Putting a value in again makes it young; what is too old is gone, also from memory."""
    clock = Clock()
    cache: TimedCache[str, int] = TimedCache(10.0, 3, clock)
    cache.put({"a": 1, "b": 2})
    clock.now = 5.0
    cache.put({"a": 1, "c": 3, "d": 4})
    assert cache.get("abcd") == {"a": 1, "c": 3, "d": 4}
    cache.drop_where(lambda name: name == "c")
    clock.now = 14.9
    assert cache.get("abcd") == {"a": 1, "d": 4}
    clock.now = 15.0
    assert cache.get("abcd") == {}
    assert not cache._entries


def _newest_of_many(folder: Path, seed: int, found: "multiprocessing.Queue[dict[str, int]]") -> None:
    data_keys = Keyring.open(folder).holder("shop-1").data_keys
    shoppers = [f"{number:032x}" for number in range(300)]
    random.Random(seed).shuffle(shoppers)
    for first in range(0, 300, 30):
        data_keys.newest(shoppers[first : first + 30])
    found.put({shopper: key.key_id for shopper, key in data_keys.newest(shoppers).items()})


def test_processes_that_make_keys_at_once_agree_on_them(folder: Path) -> None:
    """Three processes ask for the same shoppers in different orders; each shopper has one key."""
    found = _processes.Queue()
    processes = [_processes.Process(target=_newest_of_many, args=(folder, seed, found)) for seed in range(3)]
    for process in processes:
        process.start()
    answers = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert answers[0] == answers[1] == answers[2]
    assert sql(folder, "SELECT count(*) FROM data_keys") == [(300,)]


def test_destroying_again_is_no_error_and_a_fresh_key_is_another(opened: Callable[..., DataKeys]) -> None:
    """All keys of the shopper go at once; the others stay."""
    data_keys, (shopper, stays) = opened(), pseudonyms(2)
    first = data_keys.newest([shopper, stays])
    data_keys.make([shopper], 1)
    assert data_keys.destroy(shopper) == 2
    assert data_keys.destroy(shopper) == 0
    assert data_keys.keys_of([shopper, stays]).keys() == {stays}
    assert data_keys.newest([shopper])[shopper].key != first[shopper].key


def test_a_reader_that_holds_the_log_hinders_no_destruction_and_cleaning_can_be_repeated(
    folder: Path, opened: Callable[..., DataKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told that the bytes may be there still; without the reader, cleaning again empties the log."""
    monkeypatch.setattr("privacy.sqlite.BUSY_SECONDS", 0.2)
    data_keys, (shopper,) = opened(), pseudonyms(1)
    data_keys.newest([shopper])
    reader = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM data_keys").fetchall()
    assert data_keys.destroy(shopper) == 1
    assert not data_keys.clean()
    reader.close()
    assert data_keys.clean()
    assert (folder / f"{DATABASE_NAME}-wal").stat().st_size == 0


def traces(folder: Path, wrapped: bytes) -> list[str]:
    """Where a wrapped key, or any piece of 16 bytes of it behind its header, lies in the files of a keyring."""
    pieces = {wrapped[first : first + 16] for first in range(5, len(wrapped) - 15)}
    found = []
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        found += [file.name for piece in pieces if piece in content]
    return found


def opening_windows(folder: Path, keyring: Keyring, shopper: str, key_id: int) -> int:
    """How many windows of the keyring's files, at any byte, are a wrapped key of a shopper that opens."""
    wrapping = keyring.holder("shop-1").data_keys._wrapping
    header, place, count = bytes([2, 0, 0, 0, 1]), place_of("shop-1", shopper, key_id), 0
    for file in folder.iterdir():
        content = file.read_bytes()
        at = content.find(header)
        while at >= 0:
            count += wrapping.opened(content[at : at + _TOKEN_BYTES], place) is not None
            at = content.find(header, at + 1)
    return count


def windows_of(folder: Path) -> set[bytes]:
    """Every window of 32 bytes of the keyring's files that begins at a multiple of 16."""
    contents = [file.read_bytes() for file in folder.iterdir()]
    return {content[first : first + 32] for content in contents for first in range(0, len(content) - 31, 16)}


def test_a_destroyed_key_is_nowhere_in_the_files_of_a_keyring(folder: Path) -> None:
    """Among thousands of keys that come and go, no window of any file is the key, a piece of it, or opens to it.

    The search is proven on the same keys before they are destroyed.
    """
    keyring, draw = Keyring.open(folder), random.Random(1)
    data_keys = keyring.holder("shop-1").data_keys
    shoppers: list[str] = []
    for _ in range(12):
        shoppers += data_keys.newest(pseudonyms(250)).keys()
        draw.shuffle(shoppers)
        dropped = data_keys.newest([shoppers.pop() for _ in range(draw.choice([5, 90]))])
        data_keys.drop(names(dropped))
    assert data_keys.rebuild()
    assert windows_of(folder).isdisjoint(key.key for key in dropped.values())
    for shopper, key in dropped.items():
        assert opening_windows(folder, keyring, shopper, key.key_id) == 0
    chosen = data_keys.newest(shoppers[:40])
    for shopper, key in chosen.items():
        ((wrapped,),) = sql(folder, "SELECT wrapped FROM data_keys WHERE shopper = ?", shopper)
        assert isinstance(wrapped, bytes)
        assert traces(folder, wrapped)
        assert opening_windows(folder, keyring, shopper, key.key_id) >= 1
        data_keys.destroy(shopper)
        assert data_keys.clean()
        assert traces(folder, wrapped) == []
        assert opening_windows(folder, keyring, shopper, key.key_id) == 0
    assert windows_of(folder).isdisjoint(key.key for key in chosen.values())
    keyring.close()


def plant(folder: Path, content: bytes) -> None:
    """Write bytes into unused space of a page with rows, as the balancing of SQLite's trees leaves them there."""
    path, pages = folder / DATABASE_NAME, 4096
    file = bytearray(path.read_bytes())
    for page in range(pages, len(file), pages):
        kind, cells = file[page], int.from_bytes(file[page + 3 : page + 5])
        unused, used = page + 8 + 2 * cells, page + int.from_bytes(file[page + 5 : page + 7])
        if kind == 0x0D and used - unused > len(content):
            path.write_bytes(file[:unused] + content + file[unused + len(content) :])
            return
    raise AssertionError("no page with rows has so much unused space")


@pytest.mark.parametrize("piece", [slice(None), slice(24), slice(40, None)], ids=["whole", "begin", "end"])
def test_a_copy_that_the_database_left_in_unused_space_is_found_and_removed(
    folder: Path, piece: slice
) -> None:
    """A copy that no statement can reach, or what later rows have left of it; the other keys stay."""
    shopper, *others = sorted(pseudonyms(20))
    first = Keyring.open(folder)
    made = first.holder("shop-1").data_keys.newest([shopper, *others])
    first.close()
    ((wrapped,),) = sql(folder, "SELECT wrapped FROM data_keys WHERE shopper = ?", shopper)
    assert isinstance(wrapped, bytes)
    plant(folder, wrapped[piece])
    keyring = Keyring.open(folder)
    data_keys = keyring.holder("shop-1").data_keys
    data_keys.destroy(shopper)
    assert data_keys.clean()
    assert traces(folder, wrapped) == []
    assert data_keys.find(names(made)).keys() == {(other, made[other].key_id) for other in others}
    keyring.close()


def test_destroying_again_removes_what_a_killed_destruction_left(folder: Path) -> None:
    """Where no key is found, the one before may have been ended before it looked, so the file is written anew."""
    keyring = Keyring.open(folder)
    (shopper, other) = pseudonyms(2)
    keyring.holder("shop-1").data_keys.newest([shopper, other])
    ((wrapped,),) = sql(folder, "SELECT wrapped FROM data_keys WHERE shopper = ?", shopper)
    assert isinstance(wrapped, bytes)
    sql(folder, "DELETE FROM data_keys WHERE shopper = ?", shopper)
    keyring.close()
    plant(folder, wrapped)
    again = Keyring.open(folder)
    keys = again.holder("shop-1").data_keys
    assert keys.destroy(shopper) == 0
    assert keys.clean()
    assert traces(folder, wrapped) == []
    again.close()


def test_a_key_id_is_drawn_and_never_zero(
    opened: Callable[..., DataKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero stands for no key, so where it is drawn, one is taken."""
    data_keys = opened()
    monkeypatch.setattr("privacy.data_keys.os.urandom", bytes)
    assert [key.key_id for key in data_keys.newest(pseudonyms(1)).values()] == [1]
