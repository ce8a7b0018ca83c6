"""The work that both sides of the storage bench do: events of 200 bytes each, and a plain table for the same.

The plain side is SQLAlchemy Core as anybody would use it: one table, one bulk insert, in one transaction of a
database that is opened exactly as our stores open theirs (on SQLite a write-ahead log, synchronous=FULL and
secure_delete; on PostgreSQL synchronous_commit and fsync).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Engine, Integer, LargeBinary, MetaData, String, Table, select

from client.events import Columns
from client.store import EventStore
from privacy.database import open_engine, reading, writing
from privacy.keyring import Keyring

RECORD_BYTES: Final = 200
HOLDER: Final = "merchant-1"
START: Final = 1_700_000_000
_KINDS: Final = ("view", "add_to_cart", "purchase")
_SEALED: Final = ("item_id", "kind", "timestamp", "surface", "quantity", "price", "ranking_id", "merchant_id")

_metadata = MetaData()
PLAIN = Table(
    "plain_events",
    _metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("shopper", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
"""The plain side: no index but the number's, which on SQLite is the row id and costs nothing."""


def pseudonyms(count: int) -> list[str]:
    """Return the pseudonyms of so many shoppers."""
    return [_digest("shopper", number)[:32] for number in range(count)]


def events_of(shoppers: Sequence[str], per_shopper: int, first: int = 0) -> Columns:
    """Return events whose records have `RECORD_BYTES` bytes: `per_shopper` of each, in turn; no two are alike."""
    count = len(shoppers) * per_shopper
    numbers = range(first, first + count)
    columns = Columns(
        shopper=[shopper for _ in range(per_shopper) for shopper in shoppers],
        item_id=[_digest("item", number) for number in numbers],
        kind=[_KINDS[number % len(_KINDS)] for number in numbers],
        timestamp=[START + number for number in numbers],
        surface=["home"] * count,
        quantity=[1.0] * count,
        price=[round(5 + number % 9973 / 100, 2) for number in numbers],
        ranking_id=[_digest("ranking", number)[:32] for number in numbers],
        merchant_id=[HOLDER] * count,
        event_id=[None] * count,
        propensity=[None] * count,
    )
    for position, record in enumerate(records(columns)):
        columns.item_id[position] += "x" * (RECORD_BYTES - len(record))
    return columns


def with_ids(columns: Columns) -> Columns:
    """Return the same events, each with an id of its own."""
    return replace(columns, event_id=[item[:16] for item in columns.item_id])


def records(columns: Columns) -> Iterator[bytes]:
    """Write each event by itself, without its shopper: what the plain side stores."""
    write = json.JSONEncoder(separators=(",", ":")).encode
    return (
        write(values).encode() for values in zip(*(getattr(columns, name) for name in _SEALED), strict=True)
    )


def plain_rows(columns: Columns) -> list[dict[str, Any]]:
    """Return the rows of `PLAIN` for these events."""
    pairs = zip(columns.shopper, records(columns), strict=True)
    return [
        {"number": number, "shopper": shopper, "payload": payload}
        for number, (shopper, payload) in enumerate(pairs)
    ]


def append(store: EventStore, columns: Columns) -> float:
    """Append events to our store and return the seconds that it took."""
    before = time.perf_counter()
    store.append_columns(
        columns.shopper,
        columns.item_id,
        columns.kind,
        columns.timestamp,
        quantities=columns.quantity,
        prices=columns.price,
        merchant_ids=columns.merchant_id,
        ranking_ids=columns.ranking_id,
        surfaces=columns.surface,
        event_ids=columns.event_id,
    )
    return time.perf_counter() - before


def insert_plainly(engine: Engine, rows: list[dict[str, Any]]) -> float:
    """Insert rows into the plain table with SQLAlchemy Core and return the seconds that it took."""
    _metadata.create_all(engine)
    before = time.perf_counter()
    with writing(engine) as connection:
        connection.execute(PLAIN.insert(), rows)
    return time.perf_counter() - before


def read_plainly(engine: Engine) -> tuple[float, int]:
    """Read the whole plain table; return the seconds that it took and the rows that came."""
    before = time.perf_counter()
    with reading(engine) as connection:
        found = connection.execute(select(PLAIN.c.shopper, PLAIN.c.payload)).all()
    return time.perf_counter() - before, len(found)


def read_ours(store: EventStore) -> tuple[float, int]:
    """Read and decrypt the whole store; return the seconds that it took and the events that came."""
    before = time.perf_counter()
    found = store.read_columns()
    return time.perf_counter() - before, len(found)


@contextmanager
def store_at(url: str, keys: Path) -> Iterator[EventStore]:
    """Open the store of `HOLDER`, made where absent, with the keyring in `keys`."""
    with closing(Keyring.open(keys)) as keyring, EventStore.open(url, keyring, HOLDER) as store:
        yield store


@contextmanager
def plain_at(url: str) -> Iterator[Engine]:
    """Open a database for the plain side, with the settings that our store uses."""
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def silence() -> Iterator[None]:
    """Keep the store from logging every row that does not open: here they are meant not to."""
    log = logging.getLogger("fedrank.store")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _digest(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind}/{number}".encode()).hexdigest()
