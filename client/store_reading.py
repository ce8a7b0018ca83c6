"""How events come out of the store: opened shopper by shopper, damaged rows left out and named."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from client import store_schema as tables
from client.events import COLUMN_NAMES, Columns
from client.store_envelopes import ShopperSeal, seal_of
from privacy.database import text_set
from privacy.errors import DecryptionError
from privacy.keyring import HolderKeys

_event, _key = tables.events.c, tables.data_keys.c


def list_shoppers(connection: Connection, holder: str) -> list[str]:
    """Return the pseudonyms of all shoppers with events, sorted."""
    query = select(_event.shopper).where(_event.holder == holder).distinct().order_by(_event.shopper)
    return list(connection.execute(query).scalars())


def fetch_rows(connection: Connection, holder: str, shoppers: Sequence[str]) -> Sequence[Row[Any]]:
    """Return the sealed rows of some shoppers with their wrapped data keys, in the order they were stored."""
    keys = tables.data_keys
    # The outer join keeps rows whose key is gone: they have to be named, not forgotten.
    joined = tables.events.outerjoin(keys, (_key.holder == _event.holder) & (_key.shopper == _event.shopper))
    query: Select[Any] = (
        select(_event.shopper, _key.key_id, _key.wrapped, _event.number, _event.sealed)
        .select_from(joined)
        .where(_event.holder == holder, _event.shopper.in_(text_set(connection.engine, shoppers)))
        .order_by(_event.shopper, _event.number)
    )
    return connection.execute(query).all()


def open_rows(
    rows: Sequence[Row[Any]], keys: HolderKeys, quarantine: set[str]
) -> Iterator[tuple[str, Columns]]:
    """Open rows of `fetch_rows`, oldest event first; add the names of those that do not open to `quarantine`."""
    for shopper, group in groupby(rows, key=lambda row: str(row.shopper)):
        own = list(group)
        try:
            seal = seal_of(keys, shopper, own[0].key_id, own[0].wrapped)
        except (DecryptionError, TypeError):
            quarantine.add(f"data_keys/{shopper}")
            continue
        columns = _open_envelopes(own, shopper, seal, quarantine)
        if len(columns):
            yield shopper, _oldest_first(columns)


def empty_columns() -> Columns:
    """Return columns without events, to be filled."""
    return Columns(**{name: [] for name in COLUMN_NAMES})


def extend(columns: Columns, more: Columns) -> None:
    """Append the events of `more` to `columns`."""
    for into, values in zip(columns.by_name(), more.by_name(), strict=True):
        into.extend(values)


def _open_envelopes(rows: list[Row[Any]], shopper: str, seal: ShopperSeal, quarantine: set[str]) -> Columns:
    columns = empty_columns()
    for row in rows:
        try:
            opened = seal.open(row.number, row.sealed)
        except DecryptionError:
            quarantine.add(f"events/{shopper}/{row.number}")
            continue
        for name, values in opened.items():
            getattr(columns, name).extend(values)
    columns.shopper.extend([shopper] * len(columns.timestamp))
    return columns


def _oldest_first(columns: Columns) -> Columns:
    times = columns.timestamp
    if times == sorted(times):
        return columns
    order = sorted(range(len(times)), key=times.__getitem__)
    by_name = zip(COLUMN_NAMES, columns.by_name(), strict=True)
    return Columns(**{name: [values[position] for position in order] for name, values in by_name})
