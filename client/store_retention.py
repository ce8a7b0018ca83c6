"""Retention: events older than an age are deleted, while everybody else works on.

No time is readable in the database, so every envelope is opened: one in which all events are too old is deleted, one
with some of them is sealed again without those, and the ids of dropped events go too. Rows are looked at outside of
any lock; a short transaction then changes those that are still as they were read. What a killed run did not reach
the next one finds, since the age of the events is all there is to know. Whoever keeps events in memory learns from
`last_change` that some were deleted.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, text

from client.errors import ErasureIncomplete
from client.events import Columns
from client.store_access import StoreAccess, translated
from client.store_envelopes import ShopperSeal, decode, encode, names_in_use
from client.store_rhythm import PACE, Rhythm
from client.store_rotation_rows import SealedRow, fetch_sealed, lock_known, replace_sealed, shopper_pages
from privacy.database import drop_deleted_bytes, vacuum
from privacy.errors import DecryptionError
from privacy.schema import event_ids, events, meta

_DELETE_ROW: Final = delete(events).where(
    events.c.holder == bindparam("of_holder"),
    events.c.shopper == bindparam("of_shopper"),
    events.c.number == bindparam("of_number"),
    events.c.sealed == bindparam("old"),
)
_DELETE_ID: Final = delete(event_ids).where(
    event_ids.c.holder == bindparam("of_holder"),
    event_ids.c.shopper == bindparam("of_shopper"),
    event_ids.c.blind == bindparam("of_blind"),
)
_PART: Final = "retention"
_NOTE_CHANGE: Final = text(
    "INSERT INTO meta (part, name, value) VALUES (:part, :holder, :mark) "
    "ON CONFLICT (part, name) DO UPDATE SET value = excluded.value"
)


@dataclass(kw_only=True)
class Expired:
    """What a run did, or would do: events dropped, rows deleted, rows sealed again, rows that do not open."""

    events: int = 0
    rows_deleted: int = 0
    rows_sealed_again: int = 0
    unreadable: int = 0


class _Change(NamedTuple):
    """A row with events that are too old: what is left of it (None: nothing), and what to forget."""

    row: SealedRow
    sealed: bytes | None
    blinds: tuple[bytes, ...]
    events: int


def expire(
    access: StoreAccess,
    before: int,
    *,
    dry_run: bool = False,
    pace: float = PACE,
    step: Callable[[Expired], None] = lambda _: None,
) -> Expired:
    """Delete the holder's events whose timestamp is below `before`; `dry_run` only counts them.

    `step` hears of each page of shoppers. Raises `StoreUnavailable`, or `ErasureIncomplete` if another process kept
    the log with the deleted bytes from being emptied: run it again.
    """
    done, rhythm = Expired(), Rhythm(pace)
    with translated():
        for page in shopper_pages(access):
            _expire_page(access, page, before, done, None if dry_run else rhythm)
            step(done)
        if dry_run:
            return done
        vacuum(access.engine, [events.name, event_ids.name])
        if not drop_deleted_bytes(access.engine):
            raise ErasureIncomplete(
                "old events are deleted, but the write-ahead log is in use by another reader; run again to empty it"
            )
    return done


def last_change(access: StoreAccess) -> str:
    """Return a mark that is another one after every transaction that deleted old events of the holder."""
    query = select(meta.c.value).where(meta.c.part == _PART, meta.c.name == access.holder)
    with access.reading() as connection:
        return connection.execute(query).scalar_one_or_none() or ""


def _expire_page(
    access: StoreAccess, page: Sequence[str], before: int, done: Expired, rhythm: Rhythm | None
) -> None:
    """Go through the rows of some shoppers; without a rhythm only count."""
    after, looked_again = ("", -1), False
    while rows := fetch_sealed(access, events, page, after):
        changes, unreadable = _changes(access, rows, before)
        made = changes if rhythm is None else _apply(access, changes, rhythm)
        # What changed meanwhile, or lost its key to a rotation, is looked at again.
        looked_again = len(made) < len(changes) or (unreadable > 0 and not looked_again)
        if rhythm is not None or not looked_again:
            _count(done, made)
        if not looked_again:
            done.unreadable += unreadable
            after = (rows[-1].shopper, rows[-1].number)


def _apply(access: StoreAccess, changes: Sequence[_Change], rhythm: Rhythm) -> list[_Change]:
    """Make changes in short transactions; return those that nobody came before."""
    made = []
    for batch in rhythm.batches(changes):
        with rhythm.transaction(access, len(batch)) as connection:
            lock_known(connection, access.holder, sorted({change.row.shopper for change in batch}))
            for change in batch:
                if _change_row(connection, access.holder, change):
                    _forget_ids(connection, access.holder, change)
                    made.append(change)
            mark = {"part": _PART, "holder": access.holder, "mark": secrets.token_hex(8)}
            connection.execute(_NOTE_CHANGE, mark)
            access.failpoint("expire: before commit")
    return made


def _change_row(connection: Connection, holder: str, change: _Change) -> bool:
    """Delete or replace a row that is as it was read; False if it is not."""
    row = change.row
    if change.sealed is not None:
        return replace_sealed(connection, holder, events, [(row, change.sealed)]) == 1
    place = {"of_holder": holder, "of_shopper": row.shopper, "of_number": row.number, "old": row.sealed}
    return connection.execute(_DELETE_ROW, place).rowcount == 1


def _forget_ids(connection: Connection, holder: str, change: _Change) -> None:
    ids = [
        {"of_holder": holder, "of_shopper": change.row.shopper, "of_blind": blind} for blind in change.blinds
    ]
    if ids:
        connection.execute(_DELETE_ID, ids)


def _changes(access: StoreAccess, rows: Sequence[SealedRow], before: int) -> tuple[list[_Change], int]:
    """Return what is to be done to rows, and how many do not open.

    A row is sealed again under the key that it has: a rotation that comes between finds the row changed and takes it
    up again, and one that came before has made the key of the row the one in use.
    """
    keys = access.keys.data_keys.find({row.key_pair for row in rows})
    changes, unreadable = [], 0
    for row in rows:
        shopper, key_id = row.key_pair
        try:
            seal = ShopperSeal(keys[shopper, key_id], key_id, access.holder, shopper)
            change = _change_of(access, row, seal, before)
        except (KeyError, DecryptionError):
            unreadable += 1
            continue
        if change is not None:
            changes.append(change)
    return changes, unreadable


def _change_of(access: StoreAccess, row: SealedRow, seal: ShopperSeal, before: int) -> _Change | None:
    opened = decode(seal.open(row.number, row.sealed))
    times = opened["timestamp"]
    kept = [position for position, time in enumerate(times) if time >= before]
    if len(kept) == len(times):
        return None
    dropped = set(range(len(times))) - set(kept)
    ids = [opened["event_id"][position] for position in sorted(dropped)]
    blinds = tuple(access.keys.blind_index(f"{row.shopper}/{one}") for one in ids if one is not None)
    columns = Columns(shopper=[row.shopper] * len(times), **opened)
    sealed = seal.seal(row.number, encode(columns, kept, names_in_use(columns))) if kept else None
    return _Change(row, sealed, blinds, len(dropped))


def _count(done: Expired, changes: Sequence[_Change]) -> None:
    done.events += sum(change.events for change in changes)
    done.rows_deleted += sum(change.sealed is None for change in changes)
    done.rows_sealed_again += sum(change.sealed is not None for change in changes)
