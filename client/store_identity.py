"""Which database is the live one: the store that a holder's data keys are for, as against copies of it.

A store has a random number, made when its first holder comes, which no backup takes along. The keyring remembers the
number of the store in which a holder was first. Re-encryption destroys keys, and with them every store but the one
that it goes over, so whoever rotates asks here first. A file that was copied by other means than a backup has the
same number and is not told apart.
"""

import secrets
from typing import Final

from sqlalchemy import Connection, insert, select

from client.errors import NotTheLiveStore
from client.store_access import StoreAccess, translated
from privacy.database import shown
from privacy.revisions import lock_schema
from privacy.schema import STORE, meta

_BITS: Final = 128
_QUERY: Final = select(meta.c.value).where(meta.c.part == STORE, meta.c.name == "id")


def introduce(access: StoreAccess) -> None:
    """Let the keyring remember this store for a holder that is new here, unless it remembers another one."""
    with translated():
        access.keys.data_keys.note_store(_number(access))


def adopt(access: StoreAccess) -> None:
    """Let the keyring take this store for the holder's live one from now on."""
    with translated():
        access.keys.data_keys.note_store(_number(access), replace=True)


def check_live(access: StoreAccess) -> None:
    """Raise `NotTheLiveStore` unless the keyring remembers this store as the holder's."""
    with access.reading() as connection:
        number = _found(connection)
    with translated():
        live = access.keys.data_keys.store()
    if number is None or number != live:
        raise NotTheLiveStore(
            f"{shown(access.engine.url)} is not the store that the keyring knows for holder {access.holder!r}, but a "
            "copy, a restored backup or another run's: rotating here would destroy the keys of every other store. "
            "Name the live store, or pass --adopt-store if this is the live one from now on"
        )


def _number(access: StoreAccess) -> int:
    """Return the store's number, made if it has none."""
    with access.writing() as connection:
        number = _found(connection)
        if number is None:
            lock_schema(connection)
            number = _found(connection)
        if number is None:
            number = secrets.randbits(_BITS)
            connection.execute(insert(meta).values(part=STORE, name="id", value=str(number)))
    return number


def _found(connection: Connection) -> int | None:
    value = connection.execute(_QUERY).scalar_one_or_none()
    return None if value is None else int(value)
