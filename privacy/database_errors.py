"""What a database driver's error means for whoever runs fedrank: which database, what happened, what to do next.

Only the driver's first line is ever shown, and not even that where it could quote a value.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from privacy.errors import DatabaseDamaged, DatabaseError, StorageFull

_Family = tuple[type[DatabaseError], str]

_FULL: Final[_Family] = (
    StorageFull,
    "has no space left or may not grow: nothing of this change was stored and reading goes on; free space or raise "
    "the limit, then repeat",
)
_NO_INDEX: Final[_Family] = (
    StorageFull,
    "cannot be opened: there is no space for the 32 KiB that index its log; free space, then repeat",
)
_DAMAGED: Final[_Family] = (
    DatabaseDamaged,
    "is damaged: see what is left with `fedrank db check`, and restore a backup into a new database",
)
_NO_ANSWER: Final[_Family] = (DatabaseError, "does not answer: check host, port and that the server runs")

_SQLITE: Final[dict[int, _Family]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR_WRITE: _FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: _NO_INDEX,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: (DatabaseError, "is not an SQLite database: check the path"),
    sqlite3.SQLITE_CANTOPEN: (DatabaseError, "cannot be opened: check its folder and permissions"),
    sqlite3.SQLITE_READONLY: (DatabaseError, "may not be written: check the permissions of file and folder"),
    sqlite3.SQLITE_BUSY: (DatabaseError, "is kept locked by another process: wait for it, then repeat"),
}
"""By result code; an extended code that is not listed counts as its primary one (its lowest byte)."""

_SQLSTATES: Final[dict[str, _Family]] = {
    "53100": _FULL,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    "42501": (DatabaseError, "does not permit this to its user: grant the right, or name another user"),
    "53300": (DatabaseError, "has too many connections: close some, then repeat"),
    "55P03": (DatabaseError, "is kept locked by another process: wait for it, then repeat"),
    "25006": (DatabaseError, "takes no changes now (read only): name the primary server"),
    "57P01": _NO_ANSWER,
    "57P03": _NO_ANSWER,
}

_FULL_WORDS: Final = ("No space left on device", "File too large", "Disk quota exceeded")
"""In errors of PostgreSQL under several states."""

_WORDS: Final[tuple[tuple[str, _Family], ...]] = (
    ("authentication failed", (DatabaseError, "refuses the login: check user and password")),
    ("no password supplied", (DatabaseError, "wants a password: put it in the URL, PGPASSWORD or ~/.pgpass")),
    ("role ", (DatabaseError, "does not know its user: check the URL, or create the role")),
    ("does not exist", (DatabaseError, "does not exist on its server: check the name, or run createdb")),
    ("connection failed", _NO_ANSWER),
    ("connection is bad", _NO_ANSWER),
    ("connection timeout", _NO_ANSWER),
    ("failed to resolve host", _NO_ANSWER),
    ("server closed the connection", _NO_ANSWER),
    ("terminating connection", _NO_ANSWER),
)
"""For errors of PostgreSQL that come without a state, above all while connecting; the first that occurs counts."""


@contextmanager
def translated(engine: Engine, where: str) -> Iterator[None]:
    """Turn what `engine` and its driver raise within the block into our errors about the database `where`."""
    # Where bulk data goes past SQLAlchemy, the driver's own errors come through.
    driver_error = engine.dialect.loaded_dbapi.Error
    try:
        yield
    except (SQLAlchemyError, driver_error) as error:
        raise explained(getattr(error, "orig", None) or error, where) from None


def explained(cause: BaseException, where: str) -> DatabaseError:
    """Return the error to raise for a driver's error about the database `where` (a URL without its password)."""
    first_line = (str(cause).splitlines() or [""])[0]
    state = str(getattr(cause, "sqlstate", None) or "")
    kind, meaning = _family(cause, state, str(cause)) or (DatabaseError, "failed")
    if state.startswith(("22", "23")):
        first_line = f"state {state}"  # values that do not fit: the server may quote them
    return kind(f"database {where} {meaning} ({type(cause).__name__}: {first_line})")


def explained_file(cause: OSError, where: str) -> DatabaseError:
    """Return the error to raise for a file of a database that could not be written or read."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(f"{where} {_FULL[1]} ({cause.strerror})")
    return DatabaseError(f"{where} cannot be used: {cause.strerror}")


def _family(cause: BaseException, state: str, text: str) -> _Family | None:
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code) or _SQLITE.get(code & 0xFF)
    if any(words in text for words in _FULL_WORDS):
        return _FULL
    if state:
        return _SQLSTATES.get(state)
    return next((family for words, family in _WORDS if words in text), None)
