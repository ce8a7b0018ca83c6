"""Looking through a database for damage: its structure, its revision, and every table read to the end."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, func, inspect, select

from privacy.database import reading, shown
from privacy.errors import DatabaseDamaged, DatabaseMissing
from privacy.revisions import revision_of
from privacy.schema import REVISIONS, holders, meta, metadata

# Without this, SQLite would count the entries of an index.
_SQLITE_COUNT: Final = "SELECT count(*) FROM {name} NOT INDEXED"
# The text of a row needs all of its values, those kept apart from it included.
_POSTGRESQL_COUNT: Final = "SELECT count(*), sum(length(t::text)) FROM {name} AS t"


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a look through a database found: rows by table, and one line for each damage."""

    database: str
    revision: str
    newest_revision: str
    rows: dict[str, int]
    damage: tuple[str, ...]


def check(engine: Engine) -> Health:
    """Look through the whole database; a table that cannot be read is damage, and not in `rows`.

    Raises `DatabaseMissing` if there are no tables of fedrank, and what `revision_of` raises.
    """
    where = shown(engine.url)
    with reading(engine) as connection:
        revision = revision_of(connection, where)
        there = set(inspect(connection).get_table_names())
    if revision is None:
        raise DatabaseMissing(f"{where} holds no tables of fedrank; check the path or URL")
    damage = _broken_structure(engine)
    rows: dict[str, int] = {}
    for name in metadata.tables:
        if name in there:
            try:
                rows[name] = _count(engine, name)
            except DatabaseDamaged as error:
                damage.append(f"table {name} cannot be read to its end: {error}")
    return Health(
        database=where,
        revision=revision,
        newest_revision=REVISIONS[-1],
        rows=rows,
        damage=tuple(damage),
    )


def owners(engine: Engine) -> tuple[list[str], bool]:
    """Return the holders whose events the database keeps, sorted, and whether it keeps a ledger."""
    ledger = select(func.count()).where(meta.c.part == "ledger")
    with reading(engine) as connection:
        names = connection.execute(select(holders.c.holder).order_by(holders.c.holder)).scalars().all()
        return list(names), bool(connection.execute(ledger).scalar_one())


def _broken_structure(engine: Engine) -> list[str]:
    if engine.name != "sqlite":
        return []
    try:
        with reading(engine) as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    except DatabaseDamaged as error:
        return [str(error)]
    return [] if found == ["ok"] else [str(line) for line in found]


def _count(engine: Engine, name: str) -> int:
    statement = _SQLITE_COUNT if engine.name == "sqlite" else _POSTGRESQL_COUNT
    with reading(engine) as connection:
        return int(connection.exec_driver_sql(statement.format(name=name)).scalar_one())
