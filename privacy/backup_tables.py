"""Copying all rows from one database to another of the same revision, of either kind, in pages."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, column, insert, inspect, select, table
from sqlalchemy.sql.expression import TableClause

from privacy.database import shown
from privacy.database_errors import translated
from privacy.schema import metadata

PAGE_ROWS: Final = 500
"""Rows in memory at once; an envelope of 64 events has some 10 KB."""


def copy_rows(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every table of the schema that `target` has, and return the number of rows of each.

    The caller brings both transactions: one that sees a single state of the source, one that writes.
    """
    there = set(inspect(target).get_table_names())
    return {name: _copy(source, target, name) for name in metadata.tables if name in there}


def _copy(source: Connection, target: Connection, name: str) -> int:
    # The columns are those of the revision at hand, which may be older than the schema of this version.
    columns = [found["name"] for found in inspect(target).get_columns(name)]
    these = table(name, *map(column, columns))
    count = 0
    for page in _pages(source, these):
        with translated(target.engine, shown(target.engine.url)):
            _insert(target, these, page)
        count += len(page)
    return count


def _pages(source: Connection, these: TableClause) -> Iterator[Sequence[Row[Any]]]:
    with translated(source.engine, shown(source.engine.url)):
        query = select(*these.c).execution_options(yield_per=PAGE_ROWS)
        yield from source.execute(query).partitions()


def _insert(target: Connection, these: TableClause, page: Sequence[Row[Any]]) -> None:
    if target.engine.name == "sqlite":
        target.execute(insert(these), [row._asdict() for row in page])
        return
    quote = target.dialect.identifier_preparer.quote
    names = ", ".join(quote(each.name) for each in these.c)
    driver: Any = target.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {quote(these.name)} ({names}) FROM STDIN") as copy:
        for row in page:
            copy.write_row(tuple(row))
