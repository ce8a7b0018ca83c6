"""The statements on the store's hot path as SQLite takes them fastest: whole batches as JSON, rows by executemany."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, text

from client.store_rows import BLIND_BYTES, Claim, Place, Row, SealedRow, Taken, Wanted

# JSON has no bytes, so the blind indexes come as one value, and each row takes its piece of it.
_CLAIM: Final = text(
    "INSERT INTO event_ids (holder, shopper, blind) "
    "SELECT :holder, value, substr(:blinds, key * :width + 1, :width) FROM json_each(:shoppers) WHERE true "
    "ON CONFLICT DO NOTHING RETURNING blind"
)
_TAKE: Final = text(
    "INSERT INTO shoppers (holder, shopper, key_id, next_number) "
    "SELECT :holder, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') "
    "FROM json_each(:wanted) WHERE true "
    "ON CONFLICT (holder, shopper) DO UPDATE SET next_number = next_number + excluded.next_number "
    "RETURNING shopper, key_id, next_number"
)
_INSERT: Final = "INSERT INTO events (holder, shopper, number, sealed) VALUES (?, ?, ?, ?)"

# The plus signs keep SQLite from using the index for the place, and so from walking over everybody's rows.
_FETCH: Final = (
    "SELECT shopper, number, sealed FROM events "
    "WHERE holder = ? AND shopper IN (SELECT value FROM json_each(?)) AND (+shopper, +number) > (?, ?) "
    "ORDER BY shopper, number LIMIT ?"
)


def claim_ids(connection: Connection, holder: str, claims: Sequence[Claim]) -> list[bytes]:
    """Note ids; see `client.store_rows.Dialect`."""
    values = {
        "holder": holder,
        "shoppers": json.dumps([shopper for shopper, _ in claims]),
        "blinds": b"".join(blind for _, blind in claims),
        "width": BLIND_BYTES,
    }
    return list(connection.execute(_CLAIM, values).scalars())


def take_numbers(connection: Connection, holder: str, wanted: Sequence[Wanted]) -> list[Taken]:
    """Reserve row numbers; see `client.store_rows.Dialect`."""
    rows = connection.execute(_TAKE, {"holder": holder, "wanted": json.dumps(wanted)})
    return [(shopper, key_id, following) for shopper, key_id, following in rows]


def insert_rows(connection: Connection, rows: Iterable[SealedRow]) -> None:
    """Write sealed rows."""
    connection.exec_driver_sql(_INSERT, list(rows))


def fetch_rows(
    connection: Connection, holder: str, shoppers: Sequence[str], after: Place, limit: int
) -> list[Row]:
    """Return rows; see `client.store_rows.Dialect`."""
    values = (holder, json.dumps(shoppers), *after, limit)
    return [Row(*row) for row in connection.exec_driver_sql(_FETCH, values)]
