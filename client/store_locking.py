"""The lock on a shopper's row, and the data key that whoever holds it may seal new rows under.

Every writer of a shopper's rows (append, consent, erasure, rotation) takes the lock before it looks at keys, and
keeps it until its commit. While it is held, no erasure of that shopper and no change of the key for new rows can
come between. So this is the moment to ask the keyring whether a key is still there, and to ask its database: the
answer of a cache would be worth nothing. A key that was erased before the lock was taken is replaced by a fresh
one; an erasure that comes after waits for the commit, and then destroys what was written.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, func, select, update

from client import store_postgresql, store_sqlite
from client.store_access import StoreAccess
from client.store_rows import Dialect, Taken
from privacy import schema
from privacy.data_keys import DataKey
from privacy.database import text_set

NO_KEY: Final = 0
"""What the row of a shopper names who has no key; no key has this id."""

_DIALECTS: Final[Mapping[str, Dialect]] = {"sqlite": store_sqlite, "postgresql": store_postgresql}
_own = schema.shoppers.c
_USE_KEY: Final = (
    update(schema.shoppers)
    .where(_own.holder == bindparam("of_holder"), _own.shopper == bindparam("of_shopper"))
    .values(key_id=bindparam("new_key_id"))
)


def dialect_of(connection: Connection) -> Dialect:
    """Return the statements for the database of a connection."""
    return _DIALECTS[connection.engine.name]


def lock_shoppers(connection: Connection, holder: str, shoppers: Sequence[str]) -> None:
    """Wait for whoever writes for these shoppers (sorted), and keep others out until the end of the transaction.

    A shopper without a row gets one that names no key.
    """
    dialect_of(connection).take_numbers(connection, holder, [(shopper, NO_KEY, 0) for shopper in shoppers])


def wait_for_writers(connection: Connection, holder: str, shoppers: Sequence[str]) -> None:
    """Wait until nobody is in the middle of changing rows of these shoppers (SQLite: as the transaction began)."""
    wanted = (_own.holder == holder, _own.shopper.in_(text_set(connection.engine, shoppers)))
    connection.execute(select(_own.shopper).where(*wanted).with_for_update(read=True)).all()


def take_rows(
    connection: Connection, access: StoreAccess, newest: Mapping[str, DataKey], counts: Mapping[str, int]
) -> list[tuple[str, DataKey, int]]:
    """Lock shoppers and reserve so many row numbers for each; give the key for its new rows and the first number.

    `newest` are their keys from before the transaction, `counts` is sorted by shopper.
    """
    wanted = [(shopper, newest[shopper].key_id, count) for shopper, count in counts.items()]
    taken = dialect_of(connection).take_numbers(connection, access.holder, wanted)
    keys = _keys_under_lock(access, newest, taken)
    use_keys(
        connection,
        access.holder,
        {shopper: keys[shopper].key_id for shopper, key_id, _ in taken if keys[shopper].key_id != key_id},
    )
    return [(shopper, keys[shopper], following - counts[shopper]) for shopper, _, following in taken]


def use_keys(connection: Connection, holder: str, key_ids: Mapping[str, int]) -> None:
    """Let new rows of locked shoppers use other keys."""
    rows = [
        {"of_holder": holder, "of_shopper": shopper, "new_key_id": key_id}
        for shopper, key_id in key_ids.items()
    ]
    if rows:
        connection.execute(_USE_KEY, rows)


def repair_numbers(connection: Connection, holder: str, shoppers: Sequence[str]) -> None:
    """Let the next row of each shopper come after all that are there, whatever the shopper's row said."""
    event = schema.events.c
    following = select(func.coalesce(func.max(event.number) + 1, 0)).where(
        event.holder == _own.holder, event.shopper == _own.shopper
    )
    wanted = (_own.holder == holder, _own.shopper.in_(text_set(connection.engine, shoppers)))
    connection.execute(update(schema.shoppers).where(*wanted).values(next_number=following.scalar_subquery()))


def _keys_under_lock(
    access: StoreAccess, newest: Mapping[str, DataKey], taken: Sequence[Taken]
) -> dict[str, DataKey]:
    """Return the key that each shopper's row names; where that is gone, the newest, or else a fresh one."""
    data_keys = access.keys.data_keys
    named = [(shopper, key_id) for shopper, key_id, _ in taken]
    newest_of = {shopper: (shopper, newest[shopper].key_id) for shopper, _ in named}
    there = data_keys.present([*named, *newest_of.values()])
    opened = data_keys.find(pair for pair in named if pair in there and pair != newest_of[pair[0]])
    keys = {shopper: newest[shopper] for shopper, pair in newest_of.items() if pair in there}
    keys |= {shopper: DataKey(key_id=key_id, key=key) for (shopper, key_id), key in opened.items()}
    if lost := [shopper for shopper, _ in named if shopper not in keys]:
        keys |= data_keys.make(lost, data_keys.newest_generation())
    return keys
