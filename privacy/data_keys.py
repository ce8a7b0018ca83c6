"""The data keys of one holder's shoppers: made, found again, replaced and destroyed, in the keyring's database.

A shopper may have several keys; new rows use the newest. All lie wrapped by the holder, each bound to its place.
Every method is one short transaction that waits for no other database, and plain keys stay in memory for a limited
time.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Final

from sqlalchemy import Connection, Engine

from privacy import data_key_rows as stored
from privacy.cipher import KEY_BYTES, aad_of
from privacy.data_key_rows import GENERATION, WRAPPING, KeyRow
from privacy.database import drop_deleted_bytes, holds_any, reading, rebuild, writing
from privacy.errors import DamagedDataKeys
from privacy.key_wrapping import WrappingKeys
from privacy.schema import RECORD_VERSION, STORE
from privacy.timed_cache import TimedCache

FIRST_GENERATION: Final = 1
"""The generation of data keys before the first rotation of them."""

CACHE_SECONDS: Final = 300.0
"""How long a plain data key may be used from memory before the database is asked again."""

CACHED_KEYS: Final = 100_000
"""Most data keys of one holder that a process keeps in memory."""

KeyName = tuple[str, int]
"""A shopper and the id of one of its data keys."""

_KEY_ID_BYTES: Final = 4
_PIECE: Final = 16
"""Bytes: whatever holds 31 bytes of a wrapped key in a row holds one of the pieces that it is cut into."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataKey:
    """One data key of a shopper and the id that names it in every token sealed under it."""

    key_id: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyCounts:
    """How many shoppers of a holder have keys, how many keys there are, and how many are of an older generation."""

    shoppers: int
    keys: int
    behind: int


class DataKeys:
    """Shopper keys of one holder; plain ones are kept for at most `CACHE_SECONDS`. Safe for several threads."""

    def __init__(
        self,
        holder: str,
        database: Callable[[], Engine],
        wrapping: WrappingKeys,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use the keyring's database, opened at the first use, and the wrapping secrets of `holder`."""
        self._holder = holder
        self._database = database
        self._wrapping = wrapping
        self._keys: TimedCache[KeyName, bytes] = TimedCache(CACHE_SECONDS, CACHED_KEYS, clock)
        self._newest: TimedCache[str, DataKey] = TimedCache(CACHE_SECONDS, CACHED_KEYS, clock)
        self._destroyed: list[bytes] = []

    def newest(self, shoppers: Sequence[str]) -> dict[str, DataKey]:
        """Return the key for new rows of each shopper, made durably where a shopper has none.

        Raises `DamagedDataKeys` if a shopper's newest key does not open.
        """
        found = self._newest.get(shoppers)
        unknown = {shopper for shopper in shoppers if shopper not in found}
        if unknown:
            found |= self._remember(self._fetch_newest(unknown))
        return found

    def find(self, wanted: Iterable[KeyName]) -> dict[KeyName, bytes]:
        """Return keys by (shopper, key id); one that is absent or does not open is missing from the result."""
        names = set(wanted)
        found = self._keys.get(names)
        missing = names - found.keys()
        if missing:
            rows = [row for row in self._rows({shopper for shopper, _ in missing}) if row[:2] in missing]
            fetched = {row[:2]: key for row in rows if (key := self._opened(row)) is not None}
            self._keys.put(fetched)
            found |= fetched
        return found

    def present(self, wanted: Sequence[KeyName]) -> set[KeyName]:
        """Return which of these keys exist now, asked of the database; what is gone is forgotten in memory too."""
        names = set(wanted)
        with reading(self._database()) as connection:
            there = stored.names_of(connection, self._holder, {shopper for shopper, _ in names})
        self._forget(names - there)
        return names & there

    def make(self, shoppers: Sequence[str], generation: int) -> dict[str, DataKey]:
        """Make one more key for each shopper, durably, noted as of `generation`."""
        with writing(self._database()) as connection:
            made = self._insert(connection, set(shoppers), generation)
        return self._remember(made)

    def drop(self, old: Sequence[KeyName]) -> None:
        """Delete single keys, whose rows have been sealed anew; `rebuild` removes what is left of them on disk."""
        with writing(self._database()) as connection:
            stored.delete_rows(connection, self._holder, old)
        self._forget(old)

    def rebuild(self) -> bool:
        """Leave no copy of any dropped key in the database and its log; False while another process needs them."""
        return rebuild(self._database())

    def destroy(self, shopper: str) -> int:
        """Delete all keys of a shopper and return how many there were; `clean` removes what is left of them on disk.

        It waits for no reader, so that a transaction of another database may be held meanwhile.
        """
        with writing(self._database()) as connection:
            destroyed = stored.delete_shopper(connection, self._holder, shopper)
        self._keys.drop_where(lambda name: name[0] == shopper)
        self._newest.drop([shopper])
        self._destroyed += destroyed
        return len(destroyed)

    def clean(self) -> bool:
        """Leave no copy of a destroyed key in the database and its log; False while another process reads them.

        Pieces of the keys that were destroyed here are looked for, and the database is written anew where one lies
        in unused space. Where none was, an earlier call may have been interrupted before it looked.
        """
        destroyed = tuple(self._destroyed)
        pieces = [one[first : first + _PIECE] for one in destroyed for first in range(0, len(one), _PIECE)]
        whole = [one for one in pieces if len(one) == _PIECE]
        if not drop_deleted_bytes(self._database()):
            return False
        if (not whole or holds_any(self._database(), whole)) and not self.rebuild():
            return False
        for one in destroyed:
            with suppress(ValueError):  # another thread has cleaned, too
                self._destroyed.remove(one)
        return True

    def newest_generation(self) -> int:
        """Return the generation that new keys have."""
        with reading(self._database()) as connection:
            return self._generation(connection)

    def begin_generation(self) -> int:
        """Begin a new generation, durably, and return its number: from now on every other key is behind."""
        with writing(self._database()) as connection:
            generation = self._generation(connection) + 1
            stored.set_fact(connection, GENERATION, self._holder, generation)
        return generation

    def store(self) -> int | None:
        """Return the number of the event store that these keys are for, or None if none was noted."""
        with reading(self._database()) as connection:
            return stored.fact(connection, STORE, self._holder)

    def note_store(self, number: int, *, replace: bool = False) -> None:
        """Note, durably, which event store these keys are for, unless one is noted already and not to be replaced."""
        with writing(self._database()) as connection:
            if replace or stored.fact(connection, STORE, self._holder) is None:
                stored.set_fact(connection, STORE, self._holder, number)

    def keys_of(self, shoppers: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
        """Return (key id, generation) of all keys of each shopper that has any, the oldest first."""
        found: dict[str, list[tuple[int, int]]] = {}
        for row in self._rows(set(shoppers)):
            found.setdefault(row.shopper, []).append((row.key_id, row.generation))
        return found

    def counts(self) -> KeyCounts:
        """Count the holder's keys."""
        with reading(self._database()) as connection:
            shoppers, keys, behind = stored.counts_of(connection, self._holder, self._generation(connection))
        return KeyCounts(shoppers=shoppers, keys=keys, behind=behind)

    def __repr__(self) -> str:
        """Name the holder and nothing else."""
        return f"DataKeys({self._holder!r})"

    def _rows(self, shoppers: set[str]) -> list[KeyRow]:
        with reading(self._database()) as connection:
            return stored.rows_of(connection, self._holder, shoppers)

    def _fetch_newest(self, shoppers: set[str]) -> dict[str, DataKey]:
        found = self._newest_of(self._rows(shoppers))
        absent = shoppers - found.keys()
        if absent:
            with writing(self._database()) as connection:
                # Another process may have made some of them since.
                rows = stored.rows_of(connection, self._holder, absent)
                there = {row.shopper for row in rows}
                generation = self._generation(connection)
                made = self._insert(connection, absent - there, generation)
            found |= made | self._newest_of(rows)
        return found

    def _newest_of(self, rows: Iterable[KeyRow]) -> dict[str, DataKey]:
        newest = {row.shopper: row for row in rows}
        found = {shopper: (row.key_id, self._opened(row)) for shopper, row in newest.items()}
        damaged = sorted(shopper for shopper, (_, key) in found.items() if key is None)
        if damaged:
            raise DamagedDataKeys(
                f"{len(damaged)} data keys of holder {self._holder!r} do not open, the first is "
                f"data_keys/{damaged[0]}; restore the keyring from a backup, or erase the shopper to begin anew"
            )
        return {shopper: DataKey(key_id=key_id, key=key) for shopper, (key_id, key) in found.items() if key}

    def _insert(self, connection: Connection, shoppers: set[str], generation: int) -> dict[str, DataKey]:
        # Asked under the write lock of the database: no key is wrapped by a secret that is on its way out.
        number = stored.fact(connection, WRAPPING, self._holder) or self._wrapping.newest
        cipher = self._wrapping.cipher(number)
        made, rows, drawn = {}, [], BytesIO(os.urandom(len(shoppers) * (_KEY_ID_BYTES + KEY_BYTES)))
        for shopper in sorted(shoppers):
            key_id, key = int.from_bytes(drawn.read(_KEY_ID_BYTES)) or 1, drawn.read(KEY_BYTES)
            made[shopper] = DataKey(key_id=key_id, key=key)
            wrapped = cipher.seal(key, place_of(self._holder, shopper, key_id))
            rows.append(KeyRow(shopper, key_id, generation, number, wrapped))
        stored.insert_rows(connection, self._holder, rows)
        return made

    def _opened(self, row: KeyRow) -> bytes | None:
        return self._wrapping.opened(row.wrapped, place_of(self._holder, row.shopper, row.key_id))

    def _generation(self, connection: Connection) -> int:
        return stored.fact(connection, GENERATION, self._holder) or FIRST_GENERATION

    def _remember(self, newest: dict[str, DataKey]) -> dict[str, DataKey]:
        self._keys.put({(shopper, own.key_id): own.key for shopper, own in newest.items()})
        self._newest.put(newest)
        return newest

    def _forget(self, names: Iterable[KeyName]) -> None:
        names = list(names)
        self._keys.drop(names)
        self._newest.drop(shopper for shopper, _ in names)


def place_of(holder: str, shopper: str, key_id: int) -> bytes:
    """Return the associated data that bind a wrapped data key to its row."""
    return _holder_place(holder) + aad_of(shopper, key_id)


@lru_cache(maxsize=1024)
def _holder_place(holder: str) -> bytes:
    return aad_of("fedrank/keys", RECORD_VERSION, holder, "data_keys", "wrapped")
