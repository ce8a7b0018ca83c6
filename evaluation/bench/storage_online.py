"""Online re-encryption under a steady load: what reads and writes feel of it, and whether anything fails."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from client.store import EventStore
from client.store_rotation import reencrypt
from evaluation.bench import storage_world as world
from evaluation.bench.storage_bulk import EventsLost, NewDatabase
from evaluation.bench.storage_load import Seen, Spec, load_on

KINDS = ("reads", "writes")
PER_SHOPPER = 100
"""Rows of each shopper, of one event each."""

WARM_S = 3.0
"""Of load before anything is measured."""


@dataclass(frozen=True, kw_only=True)
class Online:
    """What one re-encryption under load did.

    Attributes:
        rows: of events that were re-encrypted.
        seconds: that it took.
        start: of the measured load.
        before, after: of the re-encryption. All on the monotonic clock.
    """

    rows: int
    start: float
    before: float
    after: float
    seen: Seen

    @property
    def seconds(self) -> float:
        """How long the re-encryption took."""
        return self.after - self.before

    def operations(self) -> int:
        """Return how many operations were due while the re-encryption went on."""
        return sum(len(self._seconds(kind, during=True)) for kind in KINDS)

    def p99(self, kind: str, *, during: bool) -> float:
        """Return the 99th percentile of the seconds of one kind of operation, with or without re-encryption."""
        return float(np.quantile(self._seconds(kind, during), 0.99))

    def _seconds(self, kind: str, during: bool) -> list[float]:
        measured = [(due, seconds) for due, seconds, _ in getattr(self.seen, kind) if due >= self.start]
        return [seconds for due, seconds in measured if (self.before <= due <= self.after) == during]


def online(new: NewDatabase, shoppers: int, calm_s: float) -> Online:
    """Fill a store, put it under load, and re-encrypt it between two calm spells of the same load.

    Raises:
        EventsLost: not every event is there once, or a row did not open, at the end.
    """
    with new() as url, TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        with world.store_at(url, keys) as store:
            fill(store, shoppers)
        spec = Spec(url=url, keys=str(keys), shoppers=shoppers, events=PER_SHOPPER)
        with load_on(spec) as load:
            time.sleep(WARM_S)
            start = time.monotonic()
            time.sleep(calm_s)
            before = time.monotonic()
            with world.store_at(url, keys) as store:
                reencrypt(store.access)
            after = time.monotonic()
            time.sleep(calm_s)
            seen = load.stop()
        rows = shoppers * PER_SHOPPER
        with world.store_at(url, keys) as store:
            check_all_there(store, rows, seen.acknowledged)
    return Online(rows=rows, start=start, before=before, after=after, seen=seen)


def fill(store: EventStore, shoppers: int) -> None:
    """Append `PER_SHOPPER` rows of one event each for every shopper."""
    names = world.pseudonyms(shoppers)
    for turn in range(PER_SHOPPER):
        world.append(store, world.events_of(names, 1, first=turn * shoppers))


def check_all_there(store: EventStore, rows: int, acknowledged: list[str]) -> None:
    """Refuse a store that lacks an event, holds one twice, or has a row that does not open.

    Raises:
        EventsLost: says how many.
    """
    found = store.read_columns()
    by_load = Counter(name for name in found.event_id if name is not None)
    lost = sum(name not in by_load for name in acknowledged) + max(0, rows - len(found) + by_load.total())
    doubled = sum(count - 1 for count in by_load.values()) + max(0, len(found) - by_load.total() - rows)
    if lost or doubled or store.quarantined:
        raise EventsLost(
            f"after a re-encryption {lost} events are lost, {doubled} are doubled and "
            f"{len(store.quarantined)} rows do not open"
        )
