"""How events come out of the store: page by page, so that memory stays flat; damaged rows left out and named."""

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select

from client.errors import StoreUnavailable
from client.events import COLUMN_NAMES, Columns
from client.store_access import StoreAccess, translated
from client.store_envelopes import SEALED_NAMES, ShopperSeal, decode, key_id_of
from client.store_locking import dialect_of, wait_for_writers
from client.store_rows import PAGE_SHOPPERS, START, Place, Row
from privacy import schema
from privacy.data_keys import KeyName
from privacy.errors import DecryptionError

log = logging.getLogger("fedrank.store")

PAGE_ROWS: Final = 500
"""Most rows (of up to 64 events) that are in memory at once."""

_event = schema.events.c
_shopper = schema.shoppers.c


def growth(access: StoreAccess) -> tuple[int, int]:
    """Return how many shoppers the holder has, and how many rows their events ever took: new events change it."""
    query = select(func.count(), func.coalesce(func.sum(_shopper.next_number), 0)).where(
        _shopper.holder == access.holder
    )
    with access.reading() as connection:
        shoppers, rows = connection.execute(query).one()
    return int(shoppers), int(rows)


class Quarantine:
    """The names of rows that did not open, each logged once."""

    def __init__(self) -> None:
        """Begin without any."""
        self._names: set[str] = set()
        self._lock = Lock()

    def add(self, row: Row, reason: str) -> None:
        """Note a row; the log gets its name and the reason, and nothing of its content."""
        with self._lock:
            known = row in self
            self._names.add(_name(row))
        if not known:
            log.warning("row %s is left out: %s", _name(row), reason)

    def __contains__(self, row: Row) -> bool:
        """Tell whether a row was met before."""
        return _name(row) in self._names

    @property
    def names(self) -> frozenset[str]:
        """All names so far: `events/PSEUDONYM/NUMBER`."""
        with self._lock:
            return frozenset(self._names)


def _name(row: Row) -> str:
    return f"events/{row.shopper}/{row.number}"


def list_shoppers(connection: Connection, holder: str) -> list[str]:
    """Return the pseudonyms of all shoppers with events, sorted."""
    query = select(_event.shopper).where(_event.holder == holder).distinct().order_by(_event.shopper)
    return list(connection.execute(query).scalars())


def read_pages(access: StoreAccess, shoppers: Sequence[str], quarantine: Quarantine) -> Iterator[Columns]:
    """Yield the events of sorted shoppers, in the order in which each shopper's were stored.

    A page holds events of at most `PAGE_ROWS` rows; a shopper may begin in one and end in another. No
    transaction is open while a page is away: whoever takes long over one keeps nobody's log from being emptied.
    """
    for first in range(0, len(shoppers), PAGE_SHOPPERS):
        wanted = shoppers[first : first + PAGE_SHOPPERS]
        after = START
        while wanted:
            page = _fetch_page(access, wanted, after, quarantine)
            yield _opened(access.holder, page, quarantine)
            if len(page.rows) < PAGE_ROWS:
                break
            after = page.rows[-1].shopper, page.rows[-1].number
            wanted = wanted[bisect_right(wanted, after[0]) - 1 :]


def empty_columns() -> Columns:
    """Return columns without events, to be filled."""
    return Columns(**{name: [] for name in COLUMN_NAMES})


def extend(columns: Columns, more: Columns) -> None:
    """Append the events of `more` to `columns`."""
    for into, values in zip(columns.by_name(), more.by_name(), strict=True):
        into.extend(values)


class _Page(NamedTuple):
    """Rows as they were read, the data key that each names, and those of the keys that are there."""

    rows: list[Row]
    named: list[KeyName]
    keys: dict[KeyName, bytes]

    def without_key(self) -> Iterator[Row]:
        """The rows whose key is not there."""
        return (row for row, name in zip(self.rows, self.named, strict=True) if name not in self.keys)


def _fetch_page(access: StoreAccess, shoppers: Sequence[str], after: Place, quarantine: Quarantine) -> _Page:
    """Return the next rows, with every key that is there for them.

    A key may have gone while the rows were read: a rotation has sealed them again by now, or an erasure has
    destroyed it and is about to commit. So whoever misses one waits for those who write, and looks again. For
    rows that are known to be lost nobody waits, and where one cannot wait (a full disk), reading goes on.
    """
    page = _fetch_once(access, shoppers, after)
    if missing := {row.shopper for row in page.without_key() if row not in quarantine}:
        with suppress(StoreUnavailable), access.writing() as connection:
            wait_for_writers(connection, access.holder, sorted(missing))
        page = _fetch_once(access, shoppers, after)
    return page


def _fetch_once(access: StoreAccess, shoppers: Sequence[str], after: Place) -> _Page:
    with access.reading() as connection:
        rows = dialect_of(connection).fetch_rows(connection, access.holder, shoppers, after, PAGE_ROWS)
    named = [(row.shopper, key_id_of(row.sealed)) for row in rows]
    with translated():
        return _Page(rows, named, access.keys.data_keys.find(named))


def _opened(holder: str, page: _Page, quarantine: Quarantine) -> Columns:
    columns = empty_columns()
    into = {name: getattr(columns, name).extend for name in SEALED_NAMES}
    seals = {
        (shopper, key_id): ShopperSeal(key, key_id, holder, shopper)
        for (shopper, key_id), key in page.keys.items()
    }
    for row, key_name in zip(page.rows, page.named, strict=True):
        try:
            opened = decode(seals[key_name].open(row.number, row.sealed))
        except KeyError:
            quarantine.add(row, "its data key is not in the keyring, or does not open")
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
    order, times, sorted_already = list[int](), columns.timestamp, True
    while (first := len(order)) < len(columns):
        last = bisect_right(columns.shopper, columns.shopper[first], lo=first)
        own = times[first:last]
        if own == sorted(own):
            order += range(first, last)
        else:
            order += sorted(range(first, last), key=times.__getitem__)
            sorted_already = False
    if sorted_already:
        return columns
    by_name = zip(COLUMN_NAMES, columns.by_name(), strict=True)
    return Columns(**{name: [values[position] for position in order] for name, values in by_name})


def _cut(columns: Columns, part: slice) -> Columns:
    return Columns(**{name: getattr(columns, name)[part] for name in COLUMN_NAMES})
