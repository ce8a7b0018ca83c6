"""The statements on the store's hot path as PostgreSQL takes them fastest: batches as arrays, rows by COPY."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, text

from client.store_rows import Claim, Place, Row, SealedRow, Taken, Wanted

_CLAIM: Final = text(
    "INSERT INTO event_ids (holder, shopper, blind) "
    "SELECT :holder, * FROM unnest(CAST(:shoppers AS text[]), CAST(:blinds AS bytea[])) "
    "ON CONFLICT DO NOTHING RETURNING blind"
)
_TAKE: Final = text(
    "INSERT INTO shoppers AS there (holder, shopper, key_id, next_number) SELECT :holder, * "
    "FROM unnest(CAST(:shoppers AS text[]), CAST(:key_ids AS bigint[]), CAST(:counts AS bigint[])) "
    "ON CONFLICT (holder, shopper) DO UPDATE SET next_number = there.next_number + excluded.next_number "
    "RETURNING shopper, key_id, next_number"
)
_INSERT: Final = "COPY events (holder, shopper, number, sealed) FROM STDIN (FORMAT BINARY)"
_TYPES: Final = ("text", "text", "int8", "bytea")

_FETCH: Final = (
    "SELECT shopper, number, sealed FROM events "
    "WHERE holder = %s AND shopper = ANY(%s) AND (shopper, number) > (%s, %s) "
    "ORDER BY shopper, number LIMIT %s"
)


def claim_ids(connection: Connection, holder: str, claims: Sequence[Claim]) -> list[bytes]:
    """Note ids; see `client.store_rows.Dialect`."""
    shoppers, blinds = [shopper for shopper, _ in claims], [blind for _, blind in claims]
    rows = connection.execute(_CLAIM, {"holder": holder, "shoppers": shoppers, "blinds": blinds})
    return [bytes(blind) for blind in rows.scalars()]


def take_numbers(connection: Connection, holder: str, wanted: Sequence[Wanted]) -> list[Taken]:
    """Reserve row numbers; see `client.store_rows.Dialect`."""
    shoppers, key_ids, counts = (list(column) for column in zip(*wanted, strict=True))
    values = {"holder": holder, "shoppers": shoppers, "key_ids": key_ids, "counts": counts}
    rows = connection.execute(_TAKE, values)
    return [(shopper, key_id, following) for shopper, key_id, following in rows]


def insert_rows(connection: Connection, rows: Iterable[SealedRow]) -> None:
    """Write sealed rows by COPY, past SQLAlchemy."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(_INSERT) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row(row)


def fetch_rows(
    connection: Connection, holder: str, shoppers: Sequence[str], after: Place, limit: int
) -> list[Row]:
    """Return rows; see `client.store_rows.Dialect`."""
    values = (holder, list(shoppers), *after, limit)
    return [Row(*row) for row in connection.exec_driver_sql(_FETCH, values)]
