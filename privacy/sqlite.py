"""How this project uses SQLite: durable, forgetful of deleted bytes, and patient with other writers."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from privacy.database_errors import explained_file
from privacy.errors import DatabaseMissing

BUSY_SECONDS: Final = 30.0
"""How long a statement waits for another process before it fails."""

_PRIMARY_CODE: Final = 0xFF  # the bits of an extended result code that say which kind it is
_PRAGMAS: Final = ("synchronous=FULL", "secure_delete=ON", "temp_store=MEMORY")


def ensure_file(file: Path, *, create: bool) -> None:
    """Make sure that a database file exists; a new one is empty and of mode 0600, as its logs will be."""
    # A file that is there is never opened here: closing it again would drop the locks that SQLite holds on it
    # for this whole process, and another process could then remove the log under it.
    try:
        if create and file.parent.is_dir() and not file.exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
        if not file.is_file():
            raise DatabaseMissing(
                f"there is no database file {file}; check the path, or create its folder first"
            )
    except OSError as error:
        raise explained_file(error, f"database file {file}") from None


def leave_transactions_to_engine(connection: Any, _record: Any) -> None:
    """Keep the driver from beginning transactions by itself: the engine says which kind it wants."""
    connection.isolation_level = None


def prepare_connection(connection: Any, _record: Any) -> None:
    """Set up a new connection of Python's `sqlite3` (a listener of SQLAlchemy's event "connect")."""
    leave_transactions_to_engine(connection, _record)
    with contextlib.closing(connection.cursor()) as cursor:
        _use_write_ahead_log(cursor)
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")


def empty_log(connection: Any) -> bool:
    """Move the write-ahead log into the database and cut it to nothing; False while a reader needs it."""
    deadline = time.monotonic() + BUSY_SECONDS
    while not (emptied := _checkpoint(connection)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return emptied


def rebuild(connection: Any) -> bool:
    """Write the database anew, so that its file holds its rows and nothing else, and empty the log; False if busy.

    `secure_delete` overwrites a deleted row where it lay last. Where the row was moved within or between pages
    before that, when others came or went, a copy may lie on in unused space until the page is filled.
    """
    try:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("VACUUM")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
            raise
        return False
    return empty_log(connection)


def holds_any(connection: Any, values: Sequence[bytes]) -> bool:
    """Tell whether any of these bytes lie anywhere in the pages of a database, as a row or in unused space."""
    # Read through SQLite: opening its file here and closing it would drop this process's locks on it.
    content = connection.driver_connection.serialize()
    return any(value in content for value in values)


def _checkpoint(connection: Any) -> bool:
    # Without waiting: SQLite would keep all writers out while it waits for a reader.
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA busy_timeout=0")
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = cursor.fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            return False
        finally:
            cursor.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS:.0f}")
    return bool(busy == 0)


def _use_write_ahead_log(cursor: Any) -> None:
    # Changing the mode does not wait for other connections as every other statement does, so it is repeated.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
