"""The durable database under the ledger and the event store: an embedded SQLite file, or PostgreSQL by URL.

Whatever is acknowledged survives a crash (SQLite: write-ahead log with synchronous=FULL; PostgreSQL:
synchronous_commit=on), deleted bytes are overwritten (SQLite: secure_delete=ON), and a writer waits for
another instead of failing. Error messages never hold a statement's parameters.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Engine,
    MetaData,
    Select,
    String,
    Table,
    Text,
    cast,
    create_engine,
    event,
    func,
    inspect,
    literal,
    make_url,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from privacy import sqlite
from privacy.database_errors import explained
from privacy.errors import DatabaseError, DatabaseMissing, NewerSchema, OlderSchema
from privacy.failpoints import Failpoint, no_failpoint
from privacy.revisions import change, lock_schema, revision_of
from privacy.schema import REVISIONS

_WRITES: Final = "fedrank_writes"


def database_url(place: str | Path) -> URL:
    """Return the URL of a database given as a URL or as the path of an SQLite file.

    Raises `DatabaseError` for a malformed URL, a database in memory (it would forget), and other database
    systems.
    """
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(Path(place).absolute()))
    try:
        url = make_url(place)
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
        options = {"pool_pre_ping": True}
    engine = create_engine(url, hide_parameters=True, **options)
    if engine.name == "sqlite":
        event.listen(engine, "connect", sqlite.prepare_connection)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One durable transaction that may write: committed after the block, rolled back by any exception."""
    options = {_WRITES: True}
    with _translated(engine), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads; it never waits for a writer."""
    with _translated(engine), engine.connect() as connection, connection.begin():
        yield connection


def meta_table(metadata: MetaData) -> Table:
    """Describe the table of facts about the database itself; several parts may share one database."""
    return Table(
        "meta",
        metadata,
        Column("part", String, primary_key=True),
        Column("name", String, primary_key=True),
        Column("value", Text, nullable=False),
    )


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
            "make a backup (`fedrank db backup`), then run `fedrank db migrate`"
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


def prepare_part(
    engine: Engine,
    meta: Table,
    part: str,
    version: int,
    *,
    create: bool = True,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Make sure that the tables of `part` are there in schema `version`; create them together, once.

    `meta` is the table of `meta_table`; all tables of its metadata belong to `part`; `facts` are noted in it
    when the tables are made. Several processes may do this at once. Raises `NewerSchema` if a newer version
    wrote them, `DatabaseMissing` if they are absent and not to be created.
    """
    with reading(engine) as connection:
        if _schema_is_current(connection, meta, part, version):
            return
    if not create:
        raise DatabaseMissing(f"{shown(engine.url)} holds no {part}; check the path or URL")
    with writing(engine) as connection:
        if engine.name == "postgresql":
            lock_schema(connection)
        if _schema_is_current(connection, meta, part, version):
            return
        meta.metadata.create_all(connection)
        noted = {"schema_version": str(version)} | dict(facts or {})
        rows = [{"part": part, "name": name, "value": value} for name, value in noted.items()]
        connection.execute(meta.insert(), rows)


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
        return sqlite.empty_log(connection)
    finally:
        connection.close()


def shown(url: URL) -> str:
    """Return a database URL for a message: without its password and its options."""
    plain = url.set(drivername=url.get_backend_name(), query={})
    return plain.render_as_string(hide_password=True)


def _schema_is_current(connection: Connection, meta: Table, part: str, version: int) -> bool:
    if not inspect(connection).has_table(meta.name):
        return False
    wanted = select(meta.c.value).where(meta.c.part == part, meta.c.name == "schema_version")
    found = connection.execute(wanted).scalar_one_or_none()
    if found is not None and int(found) > version:
        raise NewerSchema(
            f"{shown(connection.engine.url)} holds a {part} of schema {found}, but this version of "
            f"fedrank knows schemas up to {version}; update fedrank"
        )
    return found is not None


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: a reader that turns into a writer can fail without waiting.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
    connection.commit()


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    # Where bulk data goes past SQLAlchemy, the driver's own errors come through.
    drivers = engine.dialect.loaded_dbapi.Error
    try:
        yield
    except (SQLAlchemyError, drivers) as error:
        raise explained(getattr(error, "orig", None) or error, shown(engine.url)) from None
