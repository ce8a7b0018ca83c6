"""Online re-encryption under a steady load: what reads and writes feel of it, and whether anything fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
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
class Spell:
    """A stretch of time on the monotonic clock, with or without re-encryption."""

    start: float
    end: float
    rotating: bool


@dataclass(frozen=True, kw_only=True)
class Online:
    """What one re-encryption under load did.

    Attributes:
        rows: of events that were re-encrypted.
        spells: calm ones and rotating ones in turn.
    """

    rows: int
    spells: tuple[Spell, ...]
    seen: Seen

    @property
    def seconds(self) -> float:
        """How long the re-encryption worked."""
        return sum(spell.end - spell.start for spell in self.spells if spell.rotating)

    def operations(self) -> int:
        """Return how many operations were due while the re-encryption worked."""
        return sum(len(self._latencies(kind, self._spells(rotating=True))) for kind in KINDS)

    def p99(self, kind: str, *, rotating: bool) -> float:
        """Return the 99th percentile of the seconds of one kind of operation, with or without re-encryption."""
        return float(np.quantile(self._latencies(kind, self._spells(rotating)), 0.99))

    def p99_by_spell(self, kind: str) -> float:
        """Return the ratio of p99 in a rotating spell to p99 in the calm ones beside it: the median over spells."""
        ratios = []
        for before, between, after in zip(self.spells, self.spells[1:], self.spells[2:], strict=False):
            if between.rotating:
                calm = self._latencies(kind, [before, after])
                ratios.append(np.quantile(self._latencies(kind, [between]), 0.99) / np.quantile(calm, 0.99))
        return float(np.median(ratios))

    def _spells(self, rotating: bool) -> list[Spell]:
        return [spell for spell in self.spells if spell.rotating == rotating]

    def _latencies(self, kind: str, spells: Sequence[Spell]) -> list[float]:
        found = getattr(self.seen, kind)
        return [seconds for due, seconds, _ in found if any(one.start <= due < one.end for one in spells)]


class Spells:
    """Cuts a re-encryption into rotating spells with calm ones before, between and after them."""

    def __init__(self, rotating_s: float, calm_s: float) -> None:
        """Take the length of both kinds; `calm` comes first."""
        self.done: list[Spell] = []
        self._rotating_s, self._calm_s = rotating_s, calm_s
        self._since = 0.0

    def calm(self) -> None:
        """Let the load alone for one spell; what comes after it is a rotating one."""
        start = time.monotonic()
        time.sleep(self._calm_s)
        self._since = time.monotonic()
        self.done.append(Spell(start=start, end=self._since, rotating=False))

    def rest(self) -> None:
        """End the rotating spell, and let the load alone."""
        self.done.append(Spell(start=self._since, end=time.monotonic(), rotating=True))
        self.calm()

    def step(self, _done: object) -> None:
        """Rest between two pages if the rotating spell has been long enough."""
        if time.monotonic() - self._since >= self._rotating_s:
            self.rest()


def online(new: NewDatabase, shoppers: int, rotating_s: float) -> Online:
    """Fill a store, put it under load, and re-encrypt it in spells with calm ones, half as long, between them.

    Raises:
        EventsLost: not every event is there once, or a row did not open, at the end.
    """
    with new() as url, TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        with world.store_at(url, keys) as store:
            fill(store, shoppers)
        spells = Spells(rotating_s, rotating_s / 2)
        spec = Spec(url=url, keys=str(keys), shoppers=shoppers, events=PER_SHOPPER)
        with load_on(spec) as load, world.store_at(url, keys) as store:
            time.sleep(WARM_S)
            spells.calm()
            reencrypt(store.access, step=spells.step)
            spells.rest()
            seen = load.stop()
        rows = shoppers * PER_SHOPPER
        with world.store_at(url, keys) as store:
            check_all_there(store, rows, seen.acknowledged)
    return Online(rows=rows, spells=tuple(spells.done), seen=seen)


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
