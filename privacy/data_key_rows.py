"""Statements over a holder's rows of wrapped data keys, in the keyring's database (always SQLite)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, delete, func, select

from privacy.database import text_set
from privacy.schema import data_keys, meta

GENERATION: Final = "generation"
"""The fact of a holder that says which generation new data keys have."""

WRAPPING: Final = "wrapping"
"""The fact of a holder that says which of its wrapping secrets new data keys are wrapped by."""

_key, _fact = data_keys.c, meta.c
_INSERT: Final = """
    INSERT INTO data_keys (holder, shopper, key_id, generation, wrapping_id, wrapped) VALUES (?, ?, ?, ?, ?, ?)
"""
_DELETE: Final = "DELETE FROM data_keys WHERE holder = ? AND shopper = ? AND key_id = ?"
_REPLACE: Final = """
    UPDATE data_keys SET wrapping_id = ?, wrapped = ? WHERE holder = ? AND shopper = ? AND key_id = ? AND wrapped = ?
"""
_SET_FACT: Final = """
    INSERT INTO meta (part, name, value) VALUES (?, ?, ?)
    ON CONFLICT (part, name) DO UPDATE SET value = excluded.value
"""


class KeyRow(NamedTuple):
    """What is stored of one data key."""

    shopper: str
    key_id: int
    generation: int
    wrapping_id: int
    wrapped: bytes


def rows_of(connection: Connection, holder: str, shoppers: Iterable[str]) -> list[KeyRow]:
    """Return all keys of some shoppers, the oldest of each first."""
    wanted = text_set(connection.engine, sorted(shoppers))
    query = _rows(holder).where(_key.shopper.in_(wanted)).order_by(_key.generation, _key.key_id)
    return [KeyRow(*row) for row in connection.execute(query)]


def names_of(connection: Connection, holder: str, shoppers: Iterable[str]) -> set[tuple[str, int]]:
    """Return shopper and key id of all keys of some shoppers."""
    wanted = text_set(connection.engine, sorted(shoppers))
    query = select(_key.shopper, _key.key_id).where(_key.holder == holder, _key.shopper.in_(wanted))
    return set(map(tuple, connection.execute(query)))


def rows_outside(
    connection: Connection, holder: str, wrapping_id: int, after: tuple[str, int], limit: int
) -> list[KeyRow]:
    """Return up to `limit` keys that another secret than `wrapping_id` wraps, by shopper and key id."""
    shopper, key_id = after
    beyond = (_key.shopper > shopper) | ((_key.shopper == shopper) & (_key.key_id > key_id))
    query = _rows(holder).where(_key.wrapping_id != wrapping_id, _key.shopper >= shopper, beyond)
    page = query.order_by(_key.shopper, _key.key_id).limit(limit)
    return [KeyRow(*row) for row in connection.execute(page)]


def insert_rows(connection: Connection, holder: str, rows: Sequence[KeyRow]) -> None:
    """Add keys."""
    if rows:
        connection.exec_driver_sql(_INSERT, [(holder, *row) for row in rows])


def delete_rows(connection: Connection, holder: str, names: Sequence[tuple[str, int]]) -> None:
    """Delete keys by shopper and key id; SQLite overwrites their bytes."""
    if names:
        connection.exec_driver_sql(_DELETE, [(holder, *name) for name in names])


def delete_shopper(connection: Connection, holder: str, shopper: str) -> list[bytes]:
    """Delete all keys of a shopper, whose bytes SQLite overwrites where they lie; return their wrapped forms."""
    own = (_key.holder == holder, _key.shopper == shopper)
    wrapped = [bytes(one) for one in connection.execute(select(_key.wrapped).where(*own)).scalars()]
    connection.execute(delete(data_keys).where(*own))
    return wrapped


def replace_wrapped(
    connection: Connection, holder: str, changes: Sequence[tuple[KeyRow, int, bytes]]
) -> None:
    """Give keys another wrapping secret and wrapped form, where they are still as their row says."""
    if changes:
        values = [
            (number, wrapped, holder, row.shopper, row.key_id, row.wrapped)
            for row, number, wrapped in changes
        ]
        connection.exec_driver_sql(_REPLACE, values)


def counts_of(connection: Connection, holder: str, generation: int) -> tuple[int, int, int]:
    """Return the numbers of a holder's shoppers with keys, of their keys, and of those before `generation`."""
    behind = func.count().filter(_key.generation < generation)
    query = select(func.count(_key.shopper.distinct()), func.count(), behind).where(_key.holder == holder)
    shoppers, keys, old = connection.execute(query).one()
    return int(shoppers), int(keys), int(old)


def fact(connection: Connection, name: str, holder: str) -> int | None:
    """Return a numeric fact of a holder, or None if it was never noted."""
    query = select(_fact.value).where(_fact.part == name, _fact.name == holder)
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else int(found)


def set_fact(connection: Connection, name: str, holder: str, value: int) -> None:
    """Note a numeric fact of a holder."""
    connection.exec_driver_sql(_SET_FACT, (name, holder, str(value)))


def _rows(holder: str) -> Select[Any]:
    columns = (_key.shopper, _key.key_id, _key.generation, _key.wrapping_id, _key.wrapped)
    return select(*columns).where(_key.holder == holder)
