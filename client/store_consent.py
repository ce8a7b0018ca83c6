"""Consent at rest: one sealed record per shopper, under the shopper's own data key, with every decision in it.

A shopper without a record has granted nothing. A record that does not open grants nothing either: whoever cannot
read a decision must not act as if it said yes.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, insert, select

from client.consent import DamagedConsent, Decision, Purpose, decode, encode, is_granted
from client.store_access import StoreAccess, translated
from client.store_envelopes import ShopperSeal, key_id_of
from client.store_locking import take_rows
from privacy.data_keys import DataKey
from privacy.database import text_set
from privacy.errors import DecryptionError
from privacy.pseudonyms import check_pseudonyms
from privacy.schema import consents as table

_PAGE: Final = 1000
_NUMBER: Final = 0
"""The row number that a record's associated data name: a shopper has one record."""

_Opened = tuple[dict[str, tuple[Decision, ...]], set[str]]


class Consents:
    """The decisions of one holder's shoppers, who go by their pseudonyms."""

    def __init__(self, access: StoreAccess, clock: Callable[[], float] = time.time) -> None:
        """Use a store (`EventStore.access`); `clock` gives seconds since 1970 (UTC)."""
        self._access = access
        self._clock = clock

    def record(
        self, shoppers: Collection[str], purposes: Collection[Purpose], *, granted: bool, origin: str
    ) -> int:
        """Record a decision of each shopper durably, all or none; return for how many it changed anything.

        What is in force already is not written again. Raises `InvalidConsent` for an impossible `origin`, and
        `DamagedConsent` if a record does not open: its history would be lost.
        """
        now = int(self._clock())
        decisions = [
            Decision(purpose=purpose, granted=granted, time=now, origin=origin)
            for purpose in Purpose
            if purpose in purposes
        ]
        names = sorted(set(shoppers))
        check_pseudonyms(names)
        with translated():
            newest = self._access.keys.data_keys.newest(names)
        with self._access.writing() as connection:
            pages = (names[first : first + _PAGE] for first in range(0, len(names), _PAGE))
            return sum(self._record_page(connection, page, newest, decisions) for page in pages)

    def history(self, shopper: str) -> tuple[Decision, ...]:
        """Return the decisions of one shopper, oldest first; `DamagedConsent` if the record does not open."""
        check_pseudonyms([shopper])
        histories, damaged = self._opened([shopper])
        _refuse_damaged(damaged)
        return histories.get(shopper, ())

    def granted(self, purpose: Purpose, shoppers: Sequence[str] | None = None) -> set[str]:
        """Return who of some shoppers (default: all) has granted a purpose and not withdrawn it since."""
        histories, _ = self._opened(shoppers)
        return {shopper for shopper, history in histories.items() if is_granted(history, purpose)}

    def decided(self) -> set[str]:
        """Return the pseudonyms of all shoppers who have ever decided anything, whatever it was."""
        with self._access.reading() as connection:
            return {shopper for shopper, _ in connection.execute(self._query(None))}

    def stamp(self, shoppers: Sequence[str] | None = None) -> bytes:
        """Return bytes that differ whenever a decision of some shoppers (default: all) was made or erased."""
        digest = hashlib.sha256()
        with self._access.reading() as connection:
            for shopper, sealed in connection.execute(self._query(shoppers).order_by(table.c.shopper)):
                digest.update(shopper.encode() + bytes(sealed))
        return digest.digest()

    def damaged(self) -> list[str]:
        """Return the pseudonyms of all shoppers whose record does not open, sorted."""
        return sorted(self._opened(None)[1])

    def _query(self, shoppers: Sequence[str] | None) -> Select[Any]:
        query = select(table.c.shopper, table.c.sealed).where(table.c.holder == self._access.holder)
        if shoppers is None:
            return query
        return query.where(table.c.shopper.in_(text_set(self._access.engine, shoppers)))

    def _opened(self, shoppers: Sequence[str] | None) -> _Opened:
        """Return the histories of some shoppers (default: all), and whose records do not open."""
        histories: dict[str, tuple[Decision, ...]] = {}
        closed = set[tuple[str, int]]()
        while True:
            with self._access.reading() as connection:
                rows = [(name, bytes(sealed)) for name, sealed in connection.execute(self._query(shoppers))]
            histories |= self._open(rows)
            before, closed = (
                closed,
                {(name, key_id_of(sealed)) for name, sealed in rows if name not in histories},
            )
            shoppers = sorted({name for name, _ in closed})
            # A rotation may have sealed them again under another key, and dropped theirs, after they were read.
            if closed <= before:
                return histories, set(shoppers)

    def _open(self, rows: Sequence[tuple[str, bytes]]) -> dict[str, tuple[Decision, ...]]:
        """Return the histories in those records that open."""
        with translated():
            keys = self._access.keys.data_keys.find((shopper, key_id_of(sealed)) for shopper, sealed in rows)
        histories = {}
        for shopper, sealed in rows:
            try:
                key = DataKey(key_id=key_id_of(sealed), key=keys[shopper, key_id_of(sealed)])
                histories[shopper] = decode(self._seal(shopper, key).open(_NUMBER, sealed))
            except (KeyError, DecryptionError):
                continue
        return histories

    def _record_page(
        self,
        connection: Connection,
        page: Sequence[str],
        newest: Mapping[str, DataKey],
        decisions: Sequence[Decision],
    ) -> int:
        """Add decisions to the histories of some shoppers, whose rows are locked from here to the commit."""
        locked = take_rows(connection, self._access, newest, dict.fromkeys(page, 0))
        found = [(shopper, bytes(sealed)) for shopper, sealed in connection.execute(self._query(page))]
        histories = self._open(found)
        _refuse_damaged({shopper for shopper, _ in found} - histories.keys())
        rows = []
        for shopper, key, _ in locked:
            history = histories.get(shopper, ())
            changes = [one for one in decisions if _changes(history, one)]
            if changes:
                sealed = self._seal(shopper, key).seal(_NUMBER, encode([*history, *changes]))
                rows.append({"holder": self._access.holder, "shopper": shopper, "sealed": sealed})
        _put(connection, rows)
        return len(rows)

    def _seal(self, shopper: str, key: DataKey) -> ShopperSeal:
        return ShopperSeal(key.key, key.key_id, self._access.holder, shopper, table.name)


def _changes(history: Iterable[Decision], decision: Decision) -> bool:
    """Tell whether a decision says anything that the history does not: the first no is worth keeping, too."""
    decided = [one.granted for one in history if one.purpose is decision.purpose]
    return not decided or decided[-1] is not decision.granted


def _put(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the records of locked shoppers in place of those that are there."""
    if rows:
        there = (table.c.holder == bindparam("of_holder"), table.c.shopper == bindparam("of_shopper"))
        old = [{"of_holder": row["holder"], "of_shopper": row["shopper"]} for row in rows]
        connection.execute(delete(table).where(*there), old)
        connection.execute(insert(table), rows)


def _refuse_damaged(damaged: set[str]) -> None:
    if damaged:
        raise DamagedConsent(
            f"{len(damaged)} records of consent do not open: they were damaged or their keys are gone, and they "
            "grant nothing; restore them from a backup, or erase their shoppers"
        )
