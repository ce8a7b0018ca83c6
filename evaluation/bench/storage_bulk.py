"""Bulk paths beside plain SQLAlchemy Core: appending and reading events of 200 bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from client.events import Columns
from evaluation.bench import storage_world as world
from evaluation.bench.pairs import Pairs, in_turn
from evaluation.errors import EvaluationError

NewDatabase = Callable[[], AbstractContextManager[str]]
"""Gives the URL of an empty database, which is dropped after the block."""


class EventsLost(EvaluationError):
    """A side did not give back what it had taken, so that its speed means nothing."""


@contextmanager
def new_sqlite() -> Iterator[str]:
    """Give the URL of an empty SQLite database in a temporary folder."""
    with TemporaryDirectory(prefix="fedrank-bench-") as folder:
        yield f"sqlite:///{folder}/bench.db"


def append_pairs(new: NewDatabase, columns: Columns, pairs: int) -> Pairs:
    """Append the events to an empty store, keys made included, beside plain rows into an empty table."""
    rows = world.plain_rows(columns)

    def ours() -> float:
        with new() as url, TemporaryDirectory() as keys, world.store_at(url, Path(keys) / "keys") as store:
            return world.append(store, columns)

    def plain() -> float:
        with new() as url, world.plain_at(url) as engine:
            return world.insert_plainly(engine, rows)

    return in_turn(len(columns), ours, plain, pairs)


def read_pairs(new: NewDatabase, columns: Columns, pairs: int) -> Pairs:
    """Read the whole store, decrypted into columns, beside all rows of the plain table as they lie there.

    Raises:
        EventsLost: a side gave back another number of events than it was given.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        store = enter(world.store_at(enter(new()), Path(enter(TemporaryDirectory())) / "keys"))
        engine = enter(world.plain_at(enter(new())))
        world.append(store, columns)
        world.insert_plainly(engine, world.plain_rows(columns))

        def checked(found: tuple[float, int]) -> float:
            if found[1] != len(columns):
                raise EventsLost(f"{len(columns)} events were stored and {found[1]} came back")
            return found[0]

        return in_turn(
            len(columns),
            lambda: checked(world.read_ours(store)),
            lambda: checked(world.read_plainly(engine)),
            pairs,
        )
