"""What a shop feels: single events appended durably by several threads, and one shopper erased."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import Engine, select

from client.events import Event
from evaluation.bench import storage_world as world
from evaluation.bench.storage_bulk import EventsLost, NewDatabase
from privacy.database import reading, writing
from privacy.schema import events

_FILLED_AT_ONCE: Final = 10
"""Shoppers, so that memory stays flat."""


def single_appends(new: NewDatabase, threads: int, seconds: float) -> float:
    """Return how many events per second so many threads append, one event per call, each durable when it returns.

    Raises:
        EventsLost: fewer events are in the store than were acknowledged.
    """
    with new() as url, TemporaryDirectory() as folder, world.store_at(url, Path(folder) / "keys") as store:
        shoppers = world.pseudonyms(1000)
        world.append(store, world.events_of(shoppers, 1))
        acknowledged = [0] * threads
        ends = time.perf_counter() + seconds

        def work(own: int) -> None:
            while time.perf_counter() < ends:
                number = own + threads * acknowledged[own]
                shopper = shoppers[number % len(shoppers)]
                store.append([Event(shopper=shopper, item_id="item", kind="view", timestamp=world.START)])
                acknowledged[own] += 1

        before = time.perf_counter()
        workers = [threading.Thread(target=work, args=(own,)) for own in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took = time.perf_counter() - before
        if len(store.read_columns()) != len(shoppers) + sum(acknowledged):
            raise EventsLost(f"{sum(acknowledged)} single events were acknowledged and not all came back")
    return sum(acknowledged) / took


def erasure_seconds(new: NewDatabase, shoppers: int, per_shopper: int) -> tuple[list[float], int]:
    """Erase shoppers one by one, each of so many events, and try to read them afterwards.

    Returns:
        The seconds of each erasure, and how many events could be read after it: in the store as the erasure left
        it, and once more after the rows that it had deleted were put back, as an old copy would.
    """
    readable, seconds = 0, []
    with new() as url, TemporaryDirectory() as folder, world.store_at(url, Path(folder) / "keys") as store:
        names = world.pseudonyms(shoppers)
        for start in range(0, shoppers, _FILLED_AT_ONCE):
            batch = names[start : start + _FILLED_AT_ONCE]
            world.append(store, world.events_of(batch, per_shopper, first=start * per_shopper))
        with world.plain_at(url) as engine, world.silence():
            for name in names:
                rows = rows_of(engine, name)
                before = time.perf_counter()
                store.erase(name)
                seconds.append(time.perf_counter() - before)
                readable += len(rows_of(engine, name)) + len(store.history(name))
                put_back(engine, rows)
                readable += len(store.history(name))
    return seconds, readable


def rows_of(engine: Engine, shopper: str) -> list[dict[str, Any]]:
    """Return a shopper's rows of events as they lie in the database."""
    with reading(engine) as connection:
        found = connection.execute(select(events).where(events.c.shopper == shopper))
        return [dict(row._mapping) for row in found]


def put_back(engine: Engine, rows: list[dict[str, Any]]) -> None:
    """Insert rows of events past the store, as somebody would who has an old copy of them."""
    with writing(engine) as connection:
        connection.execute(events.insert(), rows)
