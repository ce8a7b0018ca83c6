"""Rows for every table of the schema, with values that are easy to lose on the way from one database to another."""

import datetime as dt
from typing import Any

from sqlalchemy import Connection, Engine, Float, Integer, LargeBinary, Table, select

from privacy.database import reading, writing
from privacy.schema import data_keys, ledger_heads, metadata

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
KEYRING_TABLES = {data_keys.name, ledger_heads.name}
"""What lies in the keyring's own database only."""

_TEXTS = ("plain", "ümlaut ✓", "tab\tand\nnewline", "back\\slash \\N", "'quote\" %s", "")
_FLOATS = (0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 0.0, 2.0**53)


def row_of(table: Table, number: int) -> dict[str, Any]:
    """One row of a table; `number` makes it unique and picks its values."""
    row: dict[str, Any] = {}
    for column in table.columns:
        if isinstance(column.type, LargeBinary):
            row[column.name] = bytes([number % 256, 0, 255, 10, 92]) + number.to_bytes(4, "big")
        elif isinstance(column.type, Float):
            row[column.name] = _FLOATS[number % len(_FLOATS)]
        elif isinstance(column.type, Integer):
            row[column.name] = number + 2**32 if str(column.type) == "BIGINT" else number
        elif column.nullable and number % 2:
            row[column.name] = None
        else:
            row[column.name] = f"{_TEXTS[number % len(_TEXTS)]}{number}"
    return row


def fill(engine: Engine, rows: int, *, without: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Put `rows` rows into every table that is there, except those in `without`."""
    with writing(engine) as connection:
        for table in tables_there(connection):
            if table.name not in without:
                connection.execute(table.insert(), [row_of(table, number) for number in range(rows)])


def content(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the schema that is there, sorted."""
    with reading(engine) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in tables_there(connection)
        }


def tables_there(connection: Connection) -> list[Table]:
    """The tables of the schema that the database has."""
    names = connection.dialect.get_table_names(connection)
    return [table for table in metadata.tables.values() if table.name in names]
