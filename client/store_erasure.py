"""Erasure: every row of a shopper and all of its data keys, so that no copy of a row can be read again."""

from sqlalchemy import Connection, Table, delete, func, select

from client.errors import Erased, ErasureIncomplete
from client.store_access import StoreAccess, translated
from client.store_locking import NO_KEY, lock_shoppers
from privacy import schema
from privacy.database import drop_deleted_bytes, vacuum

_OF_A_SHOPPER = [
    table
    for table in schema.metadata.sorted_tables
    if {"holder", "shopper"} <= set(table.c.keys()) and table is not schema.data_keys
]
"""Every table of this database with rows of single shoppers; a new one is erased from without being named here."""


def erase_shopper(access: StoreAccess, shopper: str) -> Erased:
    """Delete everything of one shopper, its keys too; a repetition finds nothing, or completes what was broken off.

    The shopper's row is locked first: an append that has it is waited for, and what it wrote is deleted; one that
    comes later finds its key gone and makes a fresh one. The keys are destroyed inside the transaction, after the
    last statement and before the commit: a crash between leaves rows that nobody can read and that a repetition
    deletes, while the other order could leave deleted rows, in logs or backups, whose keys live on. Logs are emptied
    after the commit, so that nobody waits for a reader of one; `ErasureIncomplete` says that a reader kept one.
    """
    with access.writing() as connection:
        lock_shoppers(connection, access.holder, [shopper])
        # The lock of somebody who was not there is a row that nobody wants to see counted.
        _delete(connection, schema.shoppers, access.holder, shopper, key_id=NO_KEY)
        access.failpoint("erase: locked")
        counts = {table.name: _delete(connection, table, access.holder, shopper) for table in _OF_A_SHOPPER}
        access.failpoint("erase: rows deleted")
        with translated():
            keys = access.keys.data_keys.destroy(shopper)
        access.failpoint("erase: keys destroyed")
    access.failpoint("erase: after commit")
    erased = Erased(rows=counts, keys=keys)
    if not _empty_logs(access):
        raise ErasureIncomplete(
            "a shopper is erased, but a write-ahead log is in use by another reader; erase again to empty it",
            erased,
        )
    return erased


def rows_left(access: StoreAccess, shopper: str) -> int:
    """Return how many rows of a shopper there are, in all tables and among the data keys."""
    with access.reading() as connection:
        counts = [
            connection.execute(
                select(func.count())
                .select_from(table)
                .where(table.c.holder == access.holder, table.c.shopper == shopper)
            ).scalar_one()
            for table in _OF_A_SHOPPER
        ]
    return sum(counts) + len(access.keys.data_keys.keys_of([shopper]).get(shopper, ()))


def vacuum_erased(access: StoreAccess) -> tuple[str, ...]:
    """On PostgreSQL, take deleted rows out of the tables that this account may vacuum, and name those."""
    with translated():
        return vacuum(access.engine, [table.name for table in _OF_A_SHOPPER])


def _empty_logs(access: StoreAccess) -> bool:
    """Leave no copy of what was deleted in both databases and their logs; False while another process reads one."""
    with translated():
        return all([access.keys.data_keys.clean(), drop_deleted_bytes(access.engine)])


def _delete(connection: Connection, table: Table, holder: str, shopper: str, **more: int) -> int:
    own = [table.c.holder == holder, table.c.shopper == shopper]
    own += [table.c[name] == value for name, value in more.items()]
    return connection.execute(delete(table).where(*own)).rowcount
