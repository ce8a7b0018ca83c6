"""The event store of a participant: every event is ciphertext at rest, under a key of its shopper's own.

A row is an envelope of 1 to 64 events of one shopper. What is acknowledged survives a crash; a row that was
damaged or moved is left out, named in `EventStore.quarantined`, and everything else is served. Several
processes may have one store open; several holders may share a database, each with its own keys and
pseudonyms.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, delete, select

from client import store_schema as tables
from client.errors import ErasureIncomplete, StoreUnavailable, WrongKeys
from client.events import Columns, Event
from client.store_envelopes import new_key_check, passes_key_check
from client.store_reading import empty_columns, extend, fetch_rows, list_shoppers, open_rows
from client.store_writing import PAGE_SHOPPERS, insert_events, insert_or_skip, pages
from privacy.database import drop_deleted_bytes, open_engine, prepare_part, reading, writing
from privacy.errors import DatabaseError
from privacy.keyring import HolderKeys, Keyring
from privacy.pseudonyms import check_pseudonyms


class EventStore:
    """The events of one holder's shoppers, under their pseudonyms."""

    def __init__(self, engine: Engine, keys: HolderKeys) -> None:
        """Use an engine whose tables are there already; `EventStore.open` makes one."""
        self._engine = engine
        self._keys = keys
        self._quarantine: set[str] = set()

    @classmethod
    def open(cls, url: str | Path, keyring: Keyring, holder: str) -> Self:
        """Open the store of `holder` at a database URL or SQLite path; made if absent.

        Raises `StoreUnavailable` with the reason, or `WrongKeys` if the store was written with another
        keyring.
        """
        keys = keyring.holder(holder)
        with _translated():
            engine = open_engine(url)
            prepare_part(engine, tables.meta, tables.PART, tables.SCHEMA_VERSION)
        store = cls(engine, keys)
        store._check_keys()
        return store

    def append(self, events: Iterable[Event]) -> int:
        """Store events durably, all or none, and return how many were new; an `event_id` is stored once."""
        return self._insert(Columns.of(events))

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
        )
        columns.check()
        return self._insert(columns)

    def history(self, shopper: str) -> list[Event]:
        """Return the events of one shopper, oldest first; a shopper without events has an empty history."""
        return list(self.read_columns([shopper]).events())

    def scan(self) -> Iterator[tuple[str, list[Event]]]:
        """Go through all shoppers in the order of their pseudonyms, each with its events, oldest first."""
        for shopper, columns in self._read(self.shoppers()):
            yield shopper, list(columns.events())

    def read_columns(self, shoppers: Sequence[str] | None = None) -> Columns:
        """Return the events of some shoppers (default: all) as columns, by pseudonym and oldest first."""
        columns = empty_columns()
        for _, more in self._read(self.shoppers() if shoppers is None else sorted(set(shoppers))):
            extend(columns, more)
        return columns

    def shoppers(self) -> list[str]:
        """Return the pseudonyms of all shoppers with events, sorted."""
        with _translated(), reading(self._engine) as connection:
            return list_shoppers(connection, self._keys.holder_id)

    @property
    def quarantined(self) -> frozenset[str]:
        """The rows that did not open so far: `events/PSEUDONYM/NUMBER`, or `data_keys/PSEUDONYM` for all of
        one.
        """
        return frozenset(self._quarantine)

    def erase(self, shopper: str) -> int:
        """Delete everything of one shopper, the data key first, and return the number of rows of events.

        On SQLite the deleted bytes are overwritten and the write-ahead log is emptied; `ErasureIncomplete`
        says that another process held it, and erasing again completes it. PostgreSQL keeps deleted rows,
        whose keys are still wrapped by the holder's, until its next vacuum.
        """
        check_pseudonyms([shopper])
        with self._writing() as connection:
            self._delete(connection, tables.data_keys, shopper)
            rows = self._delete(connection, tables.events, shopper)
            self._delete(connection, tables.event_ids, shopper)
        if not drop_deleted_bytes(self._engine):
            raise ErasureIncomplete(
                "a shopper is erased, but the write-ahead log is in use by another reader; erase again to empty it"
            )
        return rows

    def close(self) -> None:
        """Give the database connections back."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Use the store in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store at the end of the block."""
        self.close()

    def _insert(self, columns: Columns) -> int:
        check_pseudonyms(set(columns.shopper))
        with self._writing() as connection:
            return insert_events(connection, self._keys, columns)

    def _read(self, shoppers: Sequence[str]) -> Iterator[tuple[str, Columns]]:
        check_pseudonyms(shoppers)
        for page in pages(shoppers, PAGE_SHOPPERS):
            with _translated(), reading(self._engine) as connection:
                rows = fetch_rows(connection, self._keys.holder_id, page)
            yield from open_rows(rows, self._keys, self._quarantine)

    def _delete(self, connection: Connection, table: Any, shopper: str) -> int:
        own = (table.c.holder == self._keys.holder_id, table.c.shopper == shopper)
        return connection.execute(delete(table).where(*own)).rowcount

    def _check_keys(self) -> None:
        holder = self._keys.holder_id
        query = select(tables.holders.c.key_check).where(tables.holders.c.holder == holder)
        with _translated(), reading(self._engine) as connection:
            check = connection.execute(query).scalar_one_or_none()
        if check is None:
            with self._writing() as connection:
                row = {"holder": holder, "key_check": new_key_check(self._keys)}
                connection.execute(insert_or_skip(connection, tables.holders).values(row))
                check = connection.execute(query).scalar_one()
        if not passes_key_check(self._keys, check):
            raise WrongKeys(
                f"the events of holder {holder!r} were stored with other keys; open the store with the keyring that "
                "it was made with"
            )

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _translated(), writing(self._engine) as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise StoreUnavailable(f"the event store cannot be used: {error}") from None
