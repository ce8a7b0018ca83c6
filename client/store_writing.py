"""How events get into the store: ids claimed once, row numbers taken, keys looked at, envelopes sealed and written.

The order of the steps is what keeps a shopper's events readable after an append was acknowledged, and
unreadable after an erasure was, whoever else appends, erases or rotates keys at the same time:

1. Data keys are made *before* the transaction: making them waits for the keyring's disk, and nobody should wait
   for that with the database locked.
2. Ids are claimed first in it, since they decide how many rows there will be; then the rows of `shoppers` are
   taken, always in this order and sorted, so that no two writers wait for each other.
3. Taking a shopper's row locks it until the commit, and only then is its key looked at (`client.store_locking`).
4. Only then is anything sealed.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from client.events import COLUMN_NAMES, Columns
from client.store_access import StoreAccess, translated
from client.store_envelopes import ENVELOPE_EVENTS, ShopperSeal, encode, names_in_use
from client.store_locking import dialect_of, repair_numbers, take_rows
from client.store_rows import PAGE_SHOPPERS
from privacy.data_keys import DataKey

log = logging.getLogger("fedrank.store")


def pages(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces of `size`; the last may be shorter."""
    return (values[first : first + size] for first in range(0, len(values), size))


class _NumbersTaken(Exception):
    """Rows with the numbers that were reserved are there already: a number in `shoppers` was damaged."""


def store_batches(access: StoreAccess, batches: Sequence[Columns]) -> list[int]:
    """Store batches of events in one transaction; return of each how many were not there yet."""
    columns = batches[0] if len(batches) == 1 else _joined(batches)
    try:
        fresh = _store(access, columns)
    except _NumbersTaken:
        shoppers = sorted(set(columns.shopper))
        log.warning(
            "the row numbers of %d shoppers are counted anew: some were in use already", len(shoppers)
        )
        with access.writing() as connection:
            repair_numbers(connection, access.holder, shoppers)
        fresh = _store(access, columns)
    return _counts(batches, fresh)


def _store(access: StoreAccess, columns: Columns) -> list[bool]:
    """Store events in one transaction; return of each whether it was not there yet."""
    with translated():
        newest = access.keys.data_keys.newest(sorted(set(columns.shopper)))
    access.failpoint("append: keys made")
    with access.writing() as connection:
        fresh = _claim_ids(connection, access, columns)
        access.failpoint("append: ids claimed")
        taken_errors = (IntegrityError, connection.dialect.loaded_dbapi.IntegrityError)
        try:
            _insert_events(connection, access, newest, columns, fresh)
        except taken_errors:
            raise _NumbersTaken from None
        access.failpoint("append: before commit")
    access.failpoint("append: after commit")
    return fresh


def _joined(batches: Sequence[Columns]) -> Columns:
    by_name = zip(*(batch.by_name() for batch in batches), strict=True)
    joined = ([value for column in columns for value in column] for columns in by_name)
    return Columns(**dict(zip(COLUMN_NAMES, joined, strict=True)))


def _counts(batches: Sequence[Columns], fresh: Sequence[bool]) -> list[int]:
    ends = [0]
    for batch in batches:
        ends.append(ends[-1] + len(batch))
    return [sum(fresh[first:last]) for first, last in pairwise(ends)]


def _claim_ids(connection: Connection, access: StoreAccess, columns: Columns) -> list[bool]:
    """Return of each event whether it is new: it has no id, or one that nobody brought before."""
    blind_index = access.keys.blind_index
    first: dict[bytes, int] = {}
    for position, (shopper, event_id) in enumerate(zip(columns.shopper, columns.event_id, strict=True)):
        if event_id is not None:
            first.setdefault(blind_index(f"{shopper}/{event_id}"), position)
    fresh = [event_id is None for event_id in columns.event_id]
    if first:
        claims = sorted((columns.shopper[position], blind) for blind, position in first.items())
        for blind in dialect_of(connection).claim_ids(connection, access.holder, claims):
            fresh[first[blind]] = True
    return fresh


def _insert_events(
    connection: Connection,
    access: StoreAccess,
    newest: Mapping[str, DataKey],
    columns: Columns,
    fresh: Sequence[bool],
) -> None:
    by_shopper: dict[str, list[int]] = {}
    for position, shopper in enumerate(columns.shopper):
        if fresh[position]:
            by_shopper.setdefault(shopper, []).append(position)
    names = names_in_use(columns)
    for page in pages(sorted(by_shopper), PAGE_SHOPPERS):
        envelopes = {shopper: list(pages(by_shopper[shopper], ENVELOPE_EVENTS)) for shopper in page}
        counts = {shopper: len(own) for shopper, own in envelopes.items()}
        taken = take_rows(connection, access, newest, counts)
        access.failpoint("append: numbers taken")
        # Not a list: PostgreSQL writes the first rows while the next ones are sealed.
        rows = (
            (access.holder, shopper, number, seal.seal(number, encode(columns, positions, names)))
            for shopper, key, first in taken
            for seal in [ShopperSeal(key.key, key.key_id, access.holder, shopper)]
            for number, positions in enumerate(envelopes[shopper], start=first)
        )
        dialect_of(connection).insert_rows(connection, rows)
