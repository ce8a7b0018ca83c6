"""Erasure: every row of a shopper and all of its data keys, so that no copy of a row can be read again."""

from sqlalchemy import Connection, Table, delete

from client.errors import ErasureIncomplete
from client.store_access import StoreAccess
from client.store_locking import lock_shoppers
from privacy import schema
from privacy.database import drop_deleted_bytes
from privacy.errors import DestructionIncomplete

_OF_A_SHOPPER = [
    table
    for table in schema.metadata.sorted_tables
    if {"holder", "shopper"} <= set(table.c.keys()) and table is not schema.data_keys
]
"""Every table of this database with rows of single shoppers; a new one is erased from without being named here."""


def erase_shopper(access: StoreAccess, shopper: str) -> int:
    """Delete everything of one shopper and return the number of rows of events.

    The shopper's row is locked first: an append that has it is waited for, and what it wrote is deleted; one that
    comes later finds its key gone and makes a fresh one. The keys are destroyed inside the transaction, after the
    last statement and before the commit: a crash between leaves rows that nobody can read and that a repetition
    deletes, while the other order could leave deleted rows, in logs or backups, whose keys live on.
    """
    with access.writing() as connection:
        lock_shoppers(connection, access.holder, [shopper])
        access.failpoint("erase: locked")
        counts = {table.name: _delete(connection, table, access.holder, shopper) for table in _OF_A_SHOPPER}
        access.failpoint("erase: rows deleted")
        keys_overwritten = _destroy_keys(access, shopper)
        access.failpoint("erase: keys destroyed")
    access.failpoint("erase: after commit")
    if not (drop_deleted_bytes(access.engine) and keys_overwritten):
        raise ErasureIncomplete(
            "a shopper is erased, but a write-ahead log is in use by another reader; erase again to empty it"
        )
    return counts["events"]


def _destroy_keys(access: StoreAccess, shopper: str) -> bool:
    """Destroy all data keys; False if they are gone, but the keyring's log could not be emptied."""
    try:
        access.keys.data_keys.destroy(shopper)
    except DestructionIncomplete:
        return False
    return True


def _delete(connection: Connection, table: Table, holder: str, shopper: str) -> int:
    own = (table.c.holder == holder, table.c.shopper == shopper)
    return connection.execute(delete(table).where(*own)).rowcount
