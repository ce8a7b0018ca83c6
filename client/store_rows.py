"""What goes between the store and its database on the hot path."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection

PAGE_SHOPPERS: Final = 1000
"""Most shoppers whose rows are asked for, or sealed, together, so that memory stays flat."""

BLIND_BYTES: Final = 16
"""Length of a blind index."""

Claim = tuple[str, bytes]
"""A shopper and the blind index of an event's id."""

Wanted = tuple[str, int, int]
"""A shopper, the id of the key for it if it has none yet, and how many row numbers it needs."""

Taken = tuple[str, int, int]
"""A shopper, the id of the key that its new rows use, and the number after the last one reserved."""

SealedRow = tuple[str, str, int, bytes]
"""A row of `events`: holder, shopper, number, sealed."""


Place = tuple[str, int]
"""A shopper and the number of one of its rows."""

START: Final[Place] = ("", -(2**63))
"""Before the first row of anybody."""


class Row(NamedTuple):
    """A row of `events` as it lies in the database."""

    shopper: str
    number: int
    sealed: bytes


class Dialect(Protocol):
    """The statements that each kind of database has to be asked in its own way; all take sorted batches."""

    def claim_ids(self, connection: Connection, holder: str, claims: Sequence[Claim]) -> list[bytes]:
        """Note the ids of events; return the blind indexes of those that had not been there."""
        ...

    def take_numbers(self, connection: Connection, holder: str, wanted: Sequence[Wanted]) -> list[Taken]:
        """Reserve row numbers, and lock each shopper's row until the end of the transaction.

        One statement makes the row or adds to the one that is there: no other writer can come between.
        """
        ...

    def insert_rows(self, connection: Connection, rows: Iterable[SealedRow]) -> None:
        """Write sealed rows."""
        ...

    def fetch_rows(
        self, connection: Connection, holder: str, shoppers: Sequence[str], after: Place, limit: int
    ) -> list[Row]:
        """Return the next rows of some shoppers by shopper and number, at most `limit`, after a place."""
        ...
