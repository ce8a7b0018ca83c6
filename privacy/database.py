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
from privacy.errors import (
    DatabaseError,
    DatabaseMissing,
    NewerSchema,
    OlderSchema,
    UnknownSchema,
    WouldLoseRows,
)
from privacy.failpoints import Failpoint, no_failpoint
from privacy.schema import REVISION_TABLE, REVISIONS, metadata

_WRITES: Final = "fedrank_writes"
# One advisory lock of PostgreSQL for whoever makes or changes tables; any constant that nobody else uses will do.
_SCHEMA_LOCK: Final = 0x66_65_64_72_61_6E_6B


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
    with reading(engine) as connection:
        found = revision_of(connection)
    if found == REVISIONS[-1]:
        return
    if found is not None:
        raise OlderSchema(
            f"{shown(engine.url)} has revision {found} of the tables and this version of fedrank needs "
            f"{REVISIONS[-1]}; make a backup (`fedrank db backup`), then run `fedrank db migrate`"
        )
    if not create:
        raise DatabaseMissing(f"{shown(engine.url)} holds no tables of fedrank; check the path or URL")
    migrate(engine, failpoint=failpoint)


def migrate(
    engine: Engine,
    target: str = REVISIONS[-1],
    *,
    discard: bool = False,
    failpoint: Failpoint = no_failpoint,
) -> tuple[str | None, str]:
    """Take the tables up or down to revision `target`, all or nothing; return the revisions before and after.

    Raises `WouldLoseRows` if an older revision has no table for rows that are there, unless `discard`, and
    `DatabaseError` for an unknown `target`.
    """
    if target not in REVISIONS:
        raise DatabaseError(
            f"there is no revision {target!r} of the tables; known are {', '.join(REVISIONS)}"
        )
    with writing(engine) as connection:
        _lock_schema(connection)
        failpoint("migrate: locked")
        found = revision_of(connection)
        if found != target:
            # Alembic takes a third of a second to load, and only this needs it.
            from privacy.migrations import apply

            before = row_counts(connection)
            apply(connection, found, target, failpoint)
            _refuse_loss(before, row_counts(connection), target, discard)
        failpoint("migrate: before commit")
    failpoint("migrate: after commit")
    return found, target


def revision_of(connection: Connection) -> str | None:
    """Return the revision of a database's tables, or None if there are none.

    Raises `NewerSchema` for a revision that this version of fedrank does not know, and `UnknownSchema` for
    tables of our names that no revision stands for.
    """
    where, names = shown(connection.engine.url), set(inspect(connection).get_table_names())
    found = None
    if REVISION_TABLE in names:
        found = connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}").scalar_one_or_none()
    if found is not None and found not in REVISIONS:
        raise NewerSchema(
            f"{where} has revision {found!r} of the tables, but this version of fedrank knows "
            f"{', '.join(REVISIONS)}; update fedrank"
        )
    unknown = sorted(names & set(metadata.tables)) if found is None else []
    if unknown:
        raise UnknownSchema(
            f"{where} has tables without a revision ({', '.join(unknown)}): another application's, or those of "
            "an earlier development version, which cannot be carried over; name another database or run folder"
        )
    return None if found is None else str(found)


def row_counts(connection: Connection) -> dict[str, int]:
    """Return the number of rows of every table of the schema that is there, in the schema's order."""
    there = set(inspect(connection).get_table_names())
    return {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for name, table in metadata.tables.items()
        if name in there
    }


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
            connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
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
    return url.set(query={}).render_as_string(hide_password=True)


def _lock_schema(connection: Connection) -> None:
    # SQLite has one writer anyway.
    if connection.engine.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))


def _refuse_loss(before: Mapping[str, int], after: Mapping[str, int], target: str, discard: bool) -> None:
    lost = [f"{count} of {name}" for name, count in before.items() if count > after.get(name, 0)]
    if lost and not discard:
        raise WouldLoseRows(
            f"revision {target} has no place for rows that are there ({', '.join(lost)}), and nothing was changed; "
            "make a backup first, then allow the loss with --discard"
        )


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
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        first_line = (str(cause).splitlines() or [""])[0]
        raise DatabaseError(
            f"database {shown(engine.url)} failed: {type(cause).__name__}: {first_line}"
        ) from None
