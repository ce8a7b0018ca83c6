"""How events come out of the store: page by page, so that memory stays flat; damaged rows left out and named."""

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, select, tuple_

from client.events import COLUMN_NAMES, Columns
from client.store_access import StoreAccess, translated
from client.store_envelopes import ShopperSeal, decode, key_id_of
from privacy import schema
from privacy.database import text_set
from privacy.errors import DecryptionError

log = logging.getLogger("fedrank.store")

PAGE_SHOPPERS: Final = 1000
"""Most shoppers that one query asks for."""

PAGE_ROWS: Final = 1000
"""Most rows (of up to 64 events) that are in memory at once."""

_event = schema.events.c


class Row(NamedTuple):
    """A row of `events` as it lies in the database."""

    shopper: str
    number: int
    sealed: bytes

    @property
    def key_pair(self) -> tuple[str, int]:
        """The shopper and the id of the data key in the row's header, which nobody has vouched for yet."""
        return self.shopper, key_id_of(self.sealed)


class Quarantine:
    """The names of rows that did not open, each logged once."""

    def __init__(self) -> None:
        """Begin without any."""
        self._names: set[str] = set()
        self._lock = Lock()

    def add(self, row: Row, reason: str) -> None:
        """Note a row; the log gets its name and the reason, and nothing of its content."""
        name = f"events/{row.shopper}/{row.number}"
        with self._lock:
            known = name in self._names
            self._names.add(name)
        if not known:
            log.warning("row %s is left out: %s", name, reason)

    @property
    def names(self) -> frozenset[str]:
        """All names so far: `events/PSEUDONYM/NUMBER`."""
        with self._lock:
            return frozenset(self._names)


def list_shoppers(connection: Connection, holder: str) -> list[str]:
    """Return the pseudonyms of all shoppers with events, sorted."""
    query = select(_event.shopper).where(_event.holder == holder).distinct().order_by(_event.shopper)
    return list(connection.execute(query).scalars())


def fetch_rows(
    connection: Connection, holder: str, shoppers: Sequence[str], after: tuple[str, int] | None = None
) -> list[Row]:
    """Return the next rows of some shoppers by shopper and number, at most `PAGE_ROWS`, `after` a given one."""
    query: Select[Any] = (
        select(_event.shopper, _event.number, _event.sealed)
        .where(_event.holder == holder, _event.shopper.in_(text_set(connection.engine, shoppers)))
        .order_by(_event.shopper, _event.number)
        .limit(PAGE_ROWS)
    )
    if after is not None:
        query = query.where(tuple_(_event.shopper, _event.number) > tuple_(*after))
    return [Row(shopper, number, bytes(sealed)) for shopper, number, sealed in connection.execute(query)]


def read_pages(access: StoreAccess, shoppers: Sequence[str], quarantine: Quarantine) -> Iterator[Columns]:
    """Yield the events of sorted shoppers, in the order in which each shopper's were stored.

    A page holds events of at most `PAGE_ROWS` rows; a shopper may begin in one and end in another. No
    transaction is open while a page is away: whoever takes long over one keeps nobody's log from being emptied.
    """
    for first in range(0, len(shoppers), PAGE_SHOPPERS):
        wanted, after = shoppers[first : first + PAGE_SHOPPERS], None
        while wanted:
            rows, keys = _rows_with_keys(access, wanted, after)
            yield _opened(access.holder, rows, keys, quarantine)
            if len(rows) < PAGE_ROWS:
                break
            after = (rows[-1].shopper, rows[-1].number)
            wanted = wanted[bisect_right(wanted, after[0]) - 1 :]


def empty_columns() -> Columns:
    """Return columns without events, to be filled."""
    return Columns(**{name: [] for name in COLUMN_NAMES})


def extend(columns: Columns, more: Columns) -> None:
    """Append the events of `more` to `columns`."""
    for into, values in zip(columns.by_name(), more.by_name(), strict=True):
        into.extend(values)


def _rows_with_keys(
    access: StoreAccess, shoppers: Sequence[str], after: tuple[str, int] | None
) -> tuple[list[Row], dict[tuple[str, int], bytes]]:
    """Return the next rows and the data keys of those whose key is there."""
    rows, keys = _fetch(access, shoppers, after)
    if any(row.key_pair not in keys for row in rows):
        # A rotation may have sealed them again under another key, and dropped theirs, after they were read.
        rows, keys = _fetch(access, shoppers, after)
    return rows, keys


def _fetch(
    access: StoreAccess, shoppers: Sequence[str], after: tuple[str, int] | None
) -> tuple[list[Row], dict[tuple[str, int], bytes]]:
    with access.reading() as connection:
        rows = fetch_rows(connection, access.holder, shoppers, after)
    with translated():
        return rows, access.keys.data_keys.find({row.key_pair for row in rows})


def _opened(
    holder: str, rows: Sequence[Row], keys: dict[tuple[str, int], bytes], quarantine: Quarantine
) -> Columns:
    columns = empty_columns()
    seals = {pair: ShopperSeal(key, pair[1], holder, pair[0]) for pair, key in keys.items()}
    into = {name: getattr(columns, name).extend for name in COLUMN_NAMES if name != "shopper"}
    for row in rows:
        try:
            opened = decode(seals[row.key_pair].open(row.number, row.sealed))
        except KeyError:
            quarantine.add(row, "its data key is not in the keyring")
            continue
        except DecryptionError as error:
            quarantine.add(row, str(error))
            continue
        for name, values in opened.items():
            into[name](values)
        columns.shopper.extend([row.shopper] * len(opened["timestamp"]))
    return columns


def by_shopper(pages: Iterable[Columns]) -> Iterator[tuple[str, Columns]]:
    """Yield each shopper of `read_pages` with all of its events, oldest first."""
    kept = empty_columns()
    for page in pages:
        extend(kept, page)
        first = 0
        # The last shopper of a page may go on in the next.
        while kept.shopper and kept.shopper[first] != kept.shopper[-1]:
            last = bisect_right(kept.shopper, kept.shopper[first], lo=first)
            yield kept.shopper[first], oldest_first(_cut(kept, slice(first, last)))
            first = last
        kept = _cut(kept, slice(first, None))
    if len(kept):
        yield kept.shopper[0], oldest_first(kept)


def oldest_first(columns: Columns) -> Columns:
    """Return events that stand by shopper with those of each by time; those of one second stay as they stand."""
    order: list[int] = []
    while len(order) < len(columns):
        last = bisect_right(columns.shopper, columns.shopper[len(order)], lo=len(order))
        order += sorted(range(len(order), last), key=columns.timestamp.__getitem__)
    if order == list(range(len(order))):
        return columns
    by_name = zip(COLUMN_NAMES, columns.by_name(), strict=True)
    return Columns(**{name: [values[position] for position in order] for name, values in by_name})


def _cut(columns: Columns, part: slice) -> Columns:
    return Columns(**{name: getattr(columns, name)[part] for name in COLUMN_NAMES})
