"""How events get into the store: ids claimed once, keys made where absent, envelopes sealed row by row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from client import store_schema as tables
from client.errors import DamagedRow
from client.events import Columns
from client.store_envelopes import ENVELOPE_EVENTS, ShopperSeal, new_key, seal_of
from privacy.errors import DecryptionError
from privacy.keyring import HolderKeys

PAGE_SHOPPERS: Final = 1000
"""Shoppers whose rows are sealed or opened together, so that memory stays flat."""


def pages(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces of `size`; the last may be shorter."""
    return (values[first : first + size] for first in range(0, len(values), size))


def insert_events(connection: Connection, keys: HolderKeys, columns: Columns) -> int:
    """Store the events of `columns` that are not there yet and return how many those were.

    Locks are taken in one order (ids, then keys, both sorted), so that two writers never wait for each other.
    """
    by_shopper: dict[str, list[int]] = {}
    positions = _claim_ids(connection, keys, columns)
    for position in positions:
        by_shopper.setdefault(columns.shopper[position], []).append(position)
    for page in pages(sorted(by_shopper), PAGE_SHOPPERS):
        _insert_envelopes(connection, keys, columns, {shopper: by_shopper[shopper] for shopper in page})
    return len(positions)


def insert_or_skip(connection: Connection, table: Any) -> Any:
    """Return an INSERT into `table` that passes over rows whose primary key is there already."""
    return _insert(connection, table).on_conflict_do_nothing()


def _insert(connection: Connection, table: Any) -> Any:
    # Both dialects spell ON CONFLICT alike, but each has its own class for it.
    return (sqlite if connection.engine.name == "sqlite" else postgresql).insert(table)


def _claim_ids(connection: Connection, keys: HolderKeys, columns: Columns) -> list[int]:
    wanted: dict[tuple[str, bytes], int] = {}
    for position, event_id in enumerate(columns.event_id):
        if event_id is not None:
            shopper = columns.shopper[position]
            wanted.setdefault((shopper, keys.blind_index(f"{shopper}/{event_id}")), position)
    if not wanted:
        return list(range(len(columns)))
    ids = tables.event_ids
    rows = [
        {"holder": keys.holder_id, "shopper": shopper, "blind": blind} for shopper, blind in sorted(wanted)
    ]
    claim = insert_or_skip(connection, ids).returning(ids.c.shopper, ids.c.blind)
    claimed = {wanted[shopper, bytes(blind)] for shopper, blind in connection.execute(claim, rows)}
    return [
        position
        for position, event_id in enumerate(columns.event_id)
        if event_id is None or position in claimed
    ]


def _insert_envelopes(
    connection: Connection, keys: HolderKeys, columns: Columns, by_shopper: Mapping[str, Sequence[int]]
) -> None:
    envelopes = {
        shopper: list(pages(positions, ENVELOPE_EVENTS)) for shopper, positions in by_shopper.items()
    }
    counts = {shopper: len(found) for shopper, found in envelopes.items()}
    rows = [
        {
            "holder": keys.holder_id,
            "shopper": shopper,
            "number": number,
            "sealed": seal.seal(number, columns, positions),
        }
        for shopper, seal, first in _take_numbers(connection, keys, counts)
        for number, positions in enumerate(envelopes[shopper], start=first)
    ]
    connection.execute(tables.events.insert(), rows)


def _take_numbers(
    connection: Connection, keys: HolderKeys, counts: Mapping[str, int]
) -> Iterator[tuple[str, ShopperSeal, int]]:
    """Reserve row numbers for each shopper; give the seal, made where absent, and the first number."""
    table = tables.data_keys
    rows = []
    for shopper, count in counts.items():
        key_id, wrapped = new_key(keys, shopper)
        row = {"holder": keys.holder_id, "shopper": shopper, "key_id": key_id, "wrapped": wrapped}
        rows.append(row | {"next_number": count})
    insert = _insert(connection, table)
    # One statement makes the key or takes the one that is there: no other process can come between.
    take = insert.on_conflict_do_update(
        index_elements=["holder", "shopper"],
        set_={"next_number": table.c.next_number + insert.excluded.next_number},
    ).returning(table.c.shopper, table.c.key_id, table.c.wrapped, table.c.next_number)
    for shopper, key_id, wrapped, next_number in connection.execute(take, rows):
        try:
            seal = seal_of(keys, shopper, key_id, wrapped)
        except DecryptionError:
            raise DamagedRow(
                f"row data_keys/{shopper} of holder {keys.holder_id!r} does not open, so nothing can be stored for "
                "this shopper; restore the row from a backup, or erase the shopper to begin anew"
            ) from None
        yield shopper, seal, next_number - counts[shopper]
