"""Which revision of the schema a database has, and taking it to another within a transaction of the caller."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, func, inspect, select

from privacy.errors import DatabaseError, NewerSchema, UnknownSchema, WouldLoseRows
from privacy.failpoints import Failpoint, no_failpoint
from privacy.schema import REVISION_TABLE, REVISIONS, metadata

# One advisory lock of PostgreSQL for whoever makes or changes tables; any constant that nobody else uses will do.
_SCHEMA_LOCK: Final = 0x66_65_64_72_61_6E_6B


def revision_of(connection: Connection, where: str) -> str | None:
    """Return the revision of the tables in the database `where`, or None if it has none of our tables.

    Raises `NewerSchema` for a revision that this version of fedrank does not know, and `UnknownSchema` for
    tables of our names that no revision stands for.
    """
    names = set(inspect(connection).get_table_names())
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


def lock_schema(connection: Connection) -> None:
    """Wait until nobody else makes or changes tables, and keep others from it until the transaction ends."""
    # SQLite has one writer anyway.
    if connection.engine.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))


def change(
    connection: Connection,
    where: str,
    target: str,
    *,
    discard: bool = False,
    failpoint: Failpoint = no_failpoint,
) -> str | None:
    """Take the tables up or down to revision `target` under `lock_schema`; return the revision before.

    Raises `WouldLoseRows` if an older revision has no table for rows that are there, unless `discard`, and
    `DatabaseError` for an unknown `target`.
    """
    if target not in REVISIONS:
        raise DatabaseError(
            f"there is no revision {target!r} of the tables; known are {', '.join(REVISIONS)}"
        )
    lock_schema(connection)
    failpoint("migrate: locked")
    found = revision_of(connection, where)
    if found != target:
        # Alembic takes a third of a second to load, and only this needs it.
        from privacy.migrations import apply

        before = row_counts(connection)
        apply(connection, found, target, failpoint)
        if not discard:
            _refuse_loss(before, row_counts(connection), where, target)
    failpoint("migrate: before commit")
    return found


def _refuse_loss(before: Mapping[str, int], after: Mapping[str, int], where: str, target: str) -> None:
    lost = [f"{count} of {name}" for name, count in before.items() if count > after.get(name, 0)]
    if lost:
        raise WouldLoseRows(
            f"revision {target} has no place for rows that {where} holds ({', '.join(lost)}), so nothing was "
            "changed; make a backup, then allow the loss with --discard"
        )
