"""The event store of a participant: every event is ciphertext at rest, under a key of its shopper's own.

A row is an envelope of 1 to 64 events of one shopper. What is acknowledged survives a crash; a row that was
damaged or moved is left out, named in `EventStore.quarantined`, and everything else is served. Several threads
may share one store, several processes may have it open, and several holders may share a database, each with its
own keys and pseudonyms. The data keys lie in the keyring, never in this database.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from sqlalchemy import select

from client.errors import StoreUnavailable
from client.events import Columns, Event
from client.group_commit import GroupCommit
from client.store_access import StoreAccess, check_keys, translated
from client.store_erasure import erase_shopper
from client.store_identity import introduce
from client.store_reading import (
    Quarantine,
    by_shopper,
    empty_columns,
    extend,
    list_shoppers,
    oldest_first,
    read_pages,
)
from client.store_writing import store_batches
from privacy import schema
from privacy.database import open_engine, prepare
from privacy.failpoints import Failpoint, no_failpoint
from privacy.keyring import Keyring
from privacy.pseudonyms import check_pseudonyms

GROUP_EVENTS: Final = 10_000
"""Most events that one transaction takes from several callers; one caller's batch is never cut."""


class EventStore:
    """The events of one holder's shoppers, under their pseudonyms."""

    def __init__(self, access: StoreAccess) -> None:
        """Use a database whose tables are there already; `EventStore.open` makes one."""
        self.access = access
        self._quarantine = Quarantine()
        self._appends = GroupCommit[Columns, int](
            lambda batches: store_batches(access, batches),
            size=len,
            limit=GROUP_EVENTS,
            common=StoreUnavailable,
        )

    @classmethod
    def open(
        cls,
        url: str | Path,
        keyring: Keyring,
        holder: str,
        *,
        create: bool = True,
        failpoint: Failpoint = no_failpoint,
    ) -> Self:
        """Open the store of `holder` at a database URL or SQLite path; made if absent and `create`.

        Raises `StoreUnavailable` with the reason, or `WrongKeys` if the store was written with another
        keyring.
        """
        with translated():
            engine = open_engine(url, create=create)
            prepare(engine, create=create)
        access = StoreAccess(engine=engine, keys=keyring.holder(holder), failpoint=failpoint)
        if check_keys(access):
            introduce(access)
        return cls(access)

    def append(self, events: Iterable[Event]) -> int:
        """Store events durably, all or none, and return how many were new; an `event_id` is stored once."""
        return self._append(Columns.of(events))

    def append_columns(
        self,
        shoppers: Sequence[str],
        item_ids: Sequence[str],
        kinds: Sequence[str],
        timestamps: Sequence[int],
        *,
        quantities: Sequence[float | None] | None = None,
        prices: Sequence[float | None] | None = None,
        merchant_ids: Sequence[str | None] | None = None,
        ranking_ids: Sequence[str | None] | None = None,
        surfaces: Sequence[str | None] | None = None,
        event_ids: Sequence[str | None] | None = None,
    ) -> int:
        """Store parallel columns of events like `append`, but fast for many; a missing column is all None.

        The values are plain Python ones (`.tolist()` of an array); `InvalidEvent` names a column that is not.
        """
        absent = [None] * len(shoppers)
        columns = Columns(
            shopper=list(shoppers),
            item_id=list(item_ids),
            kind=list(kinds),
            timestamp=list(timestamps),
            surface=list(absent if surfaces is None else surfaces),
            quantity=list(absent if quantities is None else quantities),
            price=list(absent if prices is None else prices),
            ranking_id=list(absent if ranking_ids is None else ranking_ids),
            merchant_id=list(absent if merchant_ids is None else merchant_ids),
            event_id=list(absent if event_ids is None else event_ids),
            propensity=list(absent),
        )
        columns.check()
        return self._append(columns)

    def history(self, shopper: str) -> list[Event]:
        """Return the events of one shopper, oldest first; a shopper without events has an empty history."""
        return list(self.read_columns([shopper]).events())

    def scan(self) -> Iterator[tuple[str, list[Event]]]:
        """Go through all shoppers in the order of their pseudonyms, each with its events, oldest first."""
        for shopper, columns in by_shopper(self.pages()):
            yield shopper, list(columns.events())

    def read_columns(self, shoppers: Sequence[str] | None = None) -> Columns:
        """Return the events of some shoppers (default: all) as columns, by pseudonym and oldest first."""
        columns = empty_columns()
        for page in self.pages(shoppers):
            extend(columns, page)
        return oldest_first(columns)

    def pages(self, shoppers: Sequence[str] | None = None) -> Iterator[Columns]:
        """Go through the events of some shoppers (default: all) in bounded memory.

        They come by pseudonym, those of one shopper in the order in which they were stored; a shopper may begin
        in one page and end in a later one.
        """
        if shoppers is None:  # even a pseudonym that was damaged is asked for, so that its rows are named
            return read_pages(self.access, self.shoppers(), self._quarantine)
        check_pseudonyms(shoppers)
        return read_pages(self.access, sorted(set(shoppers)), self._quarantine)

    def shoppers(self) -> list[str]:
        """Return the pseudonyms of all shoppers with events, sorted."""
        with self.access.reading() as connection:
            return list_shoppers(connection, self.access.holder)

    def knows(self, shopper: str) -> bool:
        """Tell whether anything is kept under a pseudonym, be it a decision alone; nothing is opened for it."""
        check_pseudonyms([shopper])
        own = schema.shoppers.c
        with self.access.reading() as connection:
            found = select(own.shopper).where(own.holder == self.access.holder, own.shopper == shopper)
            return connection.execute(found).one_or_none() is not None

    @property
    def quarantined(self) -> frozenset[str]:
        """The rows that did not open so far: `events/PSEUDONYM/NUMBER`."""
        return self._quarantine.names

    def erase(self, shopper: str) -> int:
        """Delete everything of one shopper, its keys too, and return the number of rows of events.

        On SQLite the deleted bytes are overwritten and the write-ahead log is emptied; `ErasureIncomplete` says
        that another process held it, and erasing again completes it. PostgreSQL keeps deleted rows until its
        next vacuum, but their keys never lay there and are gone.
        """
        check_pseudonyms([shopper])
        return erase_shopper(self.access, shopper).rows["events"]

    def close(self) -> None:
        """Give the database connections back."""
        self.access.engine.dispose()

    def __enter__(self) -> Self:
        """Use the store in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store at the end of the block."""
        self.close()

    def _append(self, columns: Columns) -> int:
        check_pseudonyms(set(columns.shopper))
        return self._appends.submit(columns) if len(columns) else 0
