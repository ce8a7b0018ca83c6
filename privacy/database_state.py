"""What a database is and which revision its tables have, without changing a byte of it."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy.database import database_url, opened, reading, shown
from privacy.errors import DatabaseError
from privacy.revisions import revision_of
from privacy.schema import REVISIONS

OLDEST_POSTGRESQL: Final = 13


@dataclass(frozen=True, kw_only=True)
class DatabaseState:
    """One database.

    Attributes:
        system: with its version, such as "SQLite 3.46.1".
        revision: of its tables; None where it has none yet.
        newest: the revision that this version of fedrank writes.
    """

    where: str
    system: str
    revision: str | None
    newest: str


def database_state(place: str | Path) -> DatabaseState:
    """Look at a database; an SQLite file that is not there has no tables yet.

    Raises `DatabaseError` where it cannot be reached, or its system or its tables are none that fedrank can use.
    """
    url = database_url(place)
    where, newest = shown(url), REVISIONS[-1]
    if url.get_backend_name() == "sqlite":
        system = f"SQLite {sqlite3.sqlite_version}"
        if not Path(str(url.database)).exists():
            return DatabaseState(where=where, system=system, revision=None, newest=newest)
    with opened(place, read_only=True) as engine, reading(engine) as connection:
        if engine.name == "postgresql":
            version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
            system = f"PostgreSQL {int(version) // 10_000}.{int(version) % 10_000}"
            if int(version) // 10_000 < OLDEST_POSTGRESQL:
                raise DatabaseError(f"{where} is {system}; use PostgreSQL {OLDEST_POSTGRESQL} or newer")
        return DatabaseState(
            where=where, system=system, revision=revision_of(connection, where), newest=newest
        )
