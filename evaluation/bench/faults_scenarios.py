"""Operations that must survive kill -9 at any of their failpoints: what each does, and what must hold afterwards.

A turn is one kill. `act` runs in a child that is killed in it; `check` runs in another one, looks at what the
kill left, does the work again as a caller would, and looks once more. All of it is determined by the number of
the turn, so nothing has to be handed from child to child but the databases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from client.events import Event
from client.store import EventStore
from evaluation.bench.storage_world import HOLDER, START, pseudonyms
from privacy.failpoints import Failpoint, no_failpoint
from privacy.keyring import Keyring

SHOPPERS: Final = tuple(pseudonyms(400))
REGULARS: Final = SHOPPERS[:5]
"""Shoppers who are there from the first turn on; the others come one per turn."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What was wrong after kills; all zero is what must hold.

    Attributes:
        lost: acknowledged events or charges that are gone, and events of a batch that is there in part.
        doubled: events or charges that are there more than once.
        overspent: accounts that hold more than was charged to them, or could be charged beyond their cap.
        unresumed: kills after which the work could not be done again, or left something behind that it should not.
    """

    lost: int = 0
    doubled: int = 0
    overspent: int = 0
    unresumed: int = 0

    def __add__(self, other: Damage) -> Damage:
        """Return the damage of both."""
        return Damage(
            lost=self.lost + other.lost,
            doubled=self.doubled + other.doubled,
            overspent=self.overspent + other.overspent,
            unresumed=self.unresumed + other.unresumed,
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a scenario works: a database URL that stays the same, and a folder for the keyring."""

    url: str
    folder: Path

    def keyring(self) -> Keyring:
        """Open the keyring, made by the first call."""
        return Keyring.open(self.folder / "keys")

    def store(self, failpoint: Failpoint = no_failpoint) -> EventStore:
        """Open the event store."""
        return EventStore.open(self.url, self.keyring(), HOLDER, failpoint=failpoint)


class Scenario(Protocol):
    """One operation under kills; it passes each of its points at least `passes` times."""

    passes: int

    def prepare(self, place: Place) -> None:
        """Make what is there before the first kill."""
        ...

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Do what is acknowledged before the kill, then the operation, which is killed at the failpoint."""
        ...

    def check(self, place: Place, turn: int) -> Damage:
        """Tell what the kill of this turn damaged, after the operation was done again."""
        ...


def batch(turn: int, part: str) -> list[Event]:
    """Return one part of a turn's events, each with an id: of the regulars, and of one who comes in this turn."""
    names = (*REGULARS, SHOPPERS[len(REGULARS) + turn])
    return [
        Event(shopper=name, item_id="item", kind="view", timestamp=START, event_id=f"{turn}/{part}/{place}")
        for place, name in enumerate(names * 2)
    ]


def ids(events: Iterable[Event]) -> list[str]:
    """Return the ids of events."""
    return [str(event.event_id) for event in events]


def stored(store: EventStore) -> Counter[str]:
    """Return how often every event is in the store, by its id."""
    return Counter(str(name) for name in store.read_columns().event_id)


def compare(found: Counter[str], acknowledged: Collection[str], doubtful: Collection[str]) -> Damage:
    """Hold what is in a store against what was acknowledged, and against a batch that is there whole or not at all.

    An event that nobody appended counts as doubled.
    """
    partly = sum(name in found for name in doubtful)
    lost = sum(name not in found for name in acknowledged)
    lost += len(doubtful) - partly if partly else 0
    known = {*acknowledged, *doubtful}
    doubled = sum(count - (name in known) for name, count in found.items())
    return Damage(lost=lost, doubled=doubled)
