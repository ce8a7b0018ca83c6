"""What every operation of the event store works with: the database, the holder's keys, and errors in its words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, select, text

from client.errors import StoreFull, StoreUnavailable, WrongKeys
from privacy import schema
from privacy.database import reading, writing
from privacy.errors import DatabaseError, StorageFull
from privacy.failpoints import Failpoint, no_failpoint
from privacy.holder_keys import HolderKeys

_holder = schema.holders.c
_INTRODUCE: Final = text(
    "INSERT INTO holders (holder, key_check) VALUES (:holder, :check) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, kw_only=True)
class StoreAccess:
    """One holder's way into its part of a database; several holders may share one."""

    engine: Engine
    keys: HolderKeys
    failpoint: Failpoint = no_failpoint

    @property
    def holder(self) -> str:
        """Whose events these are."""
        return self.keys.holder_id

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that only reads; errors of the database come as `StoreUnavailable`."""
        with translated(), reading(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One durable transaction that may write; errors of the database come as `StoreUnavailable`."""
        with translated(), writing(self.engine) as connection:
            yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Tell what a database, the store's or the keyring's, cannot do in the words of the store."""
    try:
        yield
    except StorageFull as error:
        raise StoreFull(f"nothing more can be stored, but reading goes on: {error}") from None
    except DatabaseError as error:
        raise StoreUnavailable(f"the event store cannot be used: {error}") from None


def check_keys(access: StoreAccess) -> bool:
    """Raise `WrongKeys` unless the holder's check in the database was made with these keys; make it if absent.

    Returns True if the holder is new here.
    """
    query = select(_holder.key_check).where(_holder.holder == access.holder)
    with access.reading() as connection:
        found = check = connection.execute(query).scalar_one_or_none()
    if check is None:
        with access.writing() as connection:
            connection.execute(_INTRODUCE, {"holder": access.holder, "check": access.keys.new_check()})
            check = connection.execute(query).scalar_one()
    if not access.keys.passes_check(check):
        raise WrongKeys(
            f"the events of holder {access.holder!r} were stored with other keys; open the store with the keyring "
            "that it was made with"
        )
    return found is None
