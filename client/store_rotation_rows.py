"""What a rotation of keys reads and writes: pages of shoppers, their locks, and sealed rows of any table."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, bindparam, literal, select, tuple_, update

from client.store_access import StoreAccess
from client.store_envelopes import key_id_of
from privacy.database import text_set
from privacy.schema import consents, events, shoppers

SEALED_TABLES: Final = (events, consents)
"""The tables with rows of shoppers that are sealed under their data keys."""

PAGE_SHOPPERS: Final = 50
_PAGE_ROWS: Final = 1000

Pair = tuple[str, int]
"""A shopper and the id of a key."""

Place = tuple[str, int]
"""A shopper and the number of a row."""

_own = shoppers.c


class SealedRow(NamedTuple):
    """A row of a shopper as it was read."""

    shopper: str
    number: int
    sealed: bytes

    @property
    def key_pair(self) -> Pair:
        """The shopper and the key that the row's header names."""
        return self.shopper, key_id_of(self.sealed)


def shopper_pages(access: StoreAccess) -> Iterator[list[str]]:
    """Go through all shoppers of the holder by pseudonym."""
    query = (
        select(_own.shopper).where(_own.holder == access.holder).order_by(_own.shopper).limit(PAGE_SHOPPERS)
    )
    after = ""
    while True:
        with access.reading() as connection:
            page = list(connection.execute(query.where(_own.shopper > after)).scalars())
        if not page:
            return
        yield page
        after = page[-1]


def lock_known(connection: Connection, holder: str, names: Sequence[str]) -> dict[str, int]:
    """Lock the rows of those shoppers who have one; return the id of the key that each one's new rows use.

    They are locked in the order in which all writers do it, so that nobody waits for another in a circle.
    """
    query = (
        select(_own.shopper, _own.key_id)
        .where(_own.holder == holder, _own.shopper.in_(text_set(connection.engine, names)))
        .order_by(_own.shopper)
        .with_for_update()  # nothing on SQLite, whose writer has locked everything
    )
    return {str(shopper): int(key_id) for shopper, key_id in connection.execute(query)}


def fetch_sealed(access: StoreAccess, table: Table, names: Sequence[str], after: Place) -> list[SealedRow]:
    """Return the next rows of some shoppers (sorted) from behind `after`, by shopper and number."""
    place = (table.c.shopper, _number(table))
    # Between two bounds nobody else's rows are walked over; the place alone would be a bound on one side.
    among = table.c.shopper.between(max(names[0], after[0]), names[-1])
    query = (
        select(*place, table.c.sealed)
        .where(table.c.holder == access.holder, among)
        .where(table.c.shopper.in_(text_set(access.engine, names)), tuple_(*place) > tuple_(*after))
        .order_by(*place)
        .limit(_PAGE_ROWS)
    )
    with access.reading() as connection:
        return [
            SealedRow(shopper, number, bytes(sealed)) for shopper, number, sealed in connection.execute(query)
        ]


def replace_sealed(
    connection: Connection, holder: str, table: Table, rows: Sequence[tuple[SealedRow, bytes]]
) -> int:
    """Replace what is sealed in those rows that are still as they were read; return how many."""
    if not rows:
        return 0
    changes = [
        {
            "of_holder": holder,
            "of_shopper": row.shopper,
            "of_number": row.number,
            "old": row.sealed,
            "new": sealed,
        }
        for row, sealed in rows
    ]
    return connection.execute(_replacement(table), changes).rowcount


def _number(table: Table) -> ColumnElement[int]:
    """What numbers a shopper's rows in a table; where there is only one, it has the number 0."""
    return table.c.number if "number" in table.c else literal(0)


@cache
def _replacement(table: Table) -> Any:
    change = update(table).where(
        table.c.holder == bindparam("of_holder"), table.c.shopper == bindparam("of_shopper")
    )
    change = change.where(_number(table) == bindparam("of_number"), table.c.sealed == bindparam("old"))
    return change.values(sealed=bindparam("new"))
