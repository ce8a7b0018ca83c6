"""The durable database under the ledger and the event store: an embedded SQLite file, or PostgreSQL by URL.

Whatever is acknowledged survives a crash (SQLite: write-ahead log with synchronous=FULL; PostgreSQL:
synchronous_commit=on), deleted bytes are overwritten (SQLite: secure_delete=ON), and a writer waits for
another instead of failing. Error messages never hold a statement's parameters.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    Select,
    Text,
    cast,
    create_engine,
    event,
    func,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from privacy import sqlite
from privacy.database_errors import translated
from privacy.errors import DatabaseError, DatabaseMissing, OlderSchema
from privacy.failpoints import Failpoint, no_failpoint
from privacy.revisions import change, revision_of
from privacy.schema import REVISIONS

_WRITES: Final = "fedrank_writes"
_CONNECT_SECONDS: Final = 10


def database_url(place: str | Path) -> URL:
    """Return the URL of a database given as a URL or as the path of an SQLite file.

    Raises `DatabaseError` for a malformed URL, a database in memory (it would forget), and other database
    systems.
    """
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(Path(place).absolute()))
    try:
        url = make_url(place.replace("postgres://", "postgresql://"))
    except (ArgumentError, ValueError):
        raise DatabaseError(
            "a database URL is malformed; write sqlite:////path/to/file.db or postgresql://user@host/name"
        ) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        raise DatabaseError(
            f"database {shown(url)} cannot be used; give an SQLite file or a PostgreSQL database, "
            "because whatever is acknowledged must be kept"
        )
    return url.set(drivername="sqlite")


def open_engine(place: str | Path, *, create: bool = True) -> Engine:
    """Connect to a database; nothing is created but an empty SQLite file of mode 0600, and only if `create`.

    Raises `DatabaseMissing` if an SQLite file (or the folder for it) does not exist, `DatabaseError` for a
    bad URL.
    """
    url = database_url(place)
    if url.get_backend_name() == "sqlite":
        sqlite.ensure_file(Path(str(url.database)), create=create)
        options: dict[str, Any] = {"connect_args": {"timeout": sqlite.BUSY_SECONDS}}
    else:
        patience = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS}
        options = {"pool_pre_ping": True, "connect_args": patience}
    engine = create_engine(url, hide_parameters=True, **options)
    if engine.name == "sqlite":
        event.listen(engine, "connect", sqlite.prepare_connection)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
    return engine


def open_read_only(file: Path) -> Engine:
    """Connect to an SQLite file without changing a byte of it. Raises `DatabaseMissing` if it is not there."""
    sqlite.ensure_file(file, create=False)
    place = f"file:{quote(str(file.absolute()))}"
    engine = create_engine(URL.create("sqlite", database=place, query={"mode": "ro", "uri": "true"}))
    event.listen(engine, "connect", sqlite.leave_transactions_to_engine)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def opened(place: str | Path, *, create: bool = False, read_only: bool = False) -> Iterator[Engine]:
    """Connect to a database for one block; with `read_only` no byte of an SQLite file is changed."""
    url = database_url(place)
    if read_only and url.get_backend_name() == "sqlite":
        engine = open_read_only(Path(str(url.database)))
    else:
        engine = open_engine(place, create=create)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One durable transaction that may write: committed after the block, rolled back by any exception."""
    options = {_WRITES: True}
    with _transaction(engine, options) as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads; it never waits for a writer."""
    with _transaction(engine, {}) as connection:
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads and sees one state of all tables, however long it takes."""
    # SQLite's transactions are like that anyway.
    strict = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with _transaction(engine, strict if engine.name == "postgresql" else {}) as connection:
        yield connection


def prepare(engine: Engine, *, create: bool = True, failpoint: Failpoint = no_failpoint) -> None:
    """Make sure that the database has the tables of `privacy.schema` in the newest revision.

    An empty database gets them (several processes may ask at once); any other is only looked at. Raises
    `DatabaseMissing` if it is empty and not `create`, `OlderSchema`, `NewerSchema` or `UnknownSchema`.
    """
    where = shown(engine.url)
    with reading(engine) as connection:
        found = revision_of(connection, where)
    if found == REVISIONS[-1]:
        return
    if found is not None:
        raise OlderSchema(
            f"{where} has revision {found} of the tables and this version of fedrank needs {REVISIONS[-1]}; "
            "make a backup (`fedrank db backup`, of a keyring `fedrank keys backup`), then run `fedrank db migrate`"
        )
    if not create:
        raise DatabaseMissing(f"{where} holds no tables of fedrank; check the path or URL")
    migrate(engine, failpoint=failpoint)


def migrate(
    engine: Engine,
    target: str = REVISIONS[-1],
    *,
    discard: bool = False,
    failpoint: Failpoint = no_failpoint,
) -> str | None:
    """Take the tables to revision `target` in one transaction; return the revision before (None: no tables).

    Raises `WouldLoseRows` if an older revision has no table for rows that are there, unless `discard`.
    """
    with writing(engine) as connection:
        found = change(connection, shown(engine.url), target, discard=discard, failpoint=failpoint)
    failpoint("migrate: after commit")
    return found


def text_set(engine: Engine, values: Sequence[str]) -> Select[tuple[str]]:
    """Return a sub-query that yields `values`, sent as one parameter, however many there are."""
    if engine.name == "sqlite":
        rows = func.json_each(json.dumps(list(values))).table_valued("value")
        return select(rows.c.value)
    return select(func.unnest(cast(literal(list(values), ARRAY(Text)), ARRAY(Text))))


def drop_deleted_bytes(engine: Engine) -> bool:
    """Empty SQLite's write-ahead log, so that no copy of a deleted row stays there; True if that succeeded.

    It cannot succeed while another connection reads an older state. PostgreSQL keeps deleted rows until a
    vacuum and its own log until it is recycled; there this does nothing and returns True.
    """
    if engine.name != "sqlite":
        return True
    connection = engine.raw_connection()
    try:
        with translated(engine, shown(engine.url)):
            return sqlite.empty_log(connection)
    finally:
        connection.close()


def rebuild(engine: Engine) -> bool:
    """Write an SQLite database anew, so that nothing of a deleted row is left in its file and log; False if busy.

    Others read meanwhile and wait to write; it takes about a second for a million rows of keys.
    """
    connection = engine.raw_connection()
    try:
        with translated(engine, shown(engine.url)):
            return sqlite.rebuild(connection)
    finally:
        connection.close()


def holds_any(engine: Engine, values: Sequence[bytes]) -> bool:
    """Tell whether the pages of an SQLite database hold any of these bytes, as a row or in unused space."""
    connection = engine.raw_connection()
    try:
        with translated(engine, shown(engine.url)):
            return sqlite.holds_any(connection, values)
    finally:
        connection.close()


def vacuum(engine: Engine, tables: Sequence[str]) -> tuple[str, ...]:
    """Take deleted rows out of those PostgreSQL tables that this account may vacuum; return their names.

    Copies that another transaction may still look at stay until a later vacuum. SQLite overwrites deleted rows at
    once; there this does nothing.
    """
    if engine.name != "postgresql":
        return ()
    owned = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:name)")
    by_itself = {"isolation_level": "AUTOCOMMIT"}
    with (
        translated(engine, shown(engine.url)),
        engine.connect().execution_options(**by_itself) as connection,
    ):
        own = [name for name in tables if connection.execute(owned, {"name": name}).scalar()]
        for name in own:
            connection.exec_driver_sql(f"VACUUM {name}")
    return tuple(own)


def shown(url: URL) -> str:
    """Return a database URL for a message: without its password and its options."""
    plain = url.set(drivername=url.get_backend_name(), query={})
    if plain.database and plain.database.startswith("file:"):
        plain = plain.set(database=unquote(plain.database.removeprefix("file:")))
    return plain.render_as_string(hide_password=True)


@contextmanager
def _transaction(engine: Engine, options: dict[str, Any]) -> Iterator[Connection]:
    with (
        translated(engine, shown(engine.url)),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: a reader that turns into a writer can fail without waiting.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
    connection.commit()
