"""Appends that do something wrong around a kill: `python planted_faults.py FAULT FOLDER` prints the count.

A process of its own, because only one without threads may fork.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from evaluation.bench.faults_append import Append
from evaluation.bench.faults_kills import kill_repeatedly
from evaluation.bench.faults_scenarios import SHOPPERS, Damage, Place, batch
from privacy.failpoints import Failpoint


class Harmful(Append):
    """Does harm to what was acknowledged, just before the kill."""

    def __init__(self, harm: Callable[[Place], object]) -> None:
        """Take what does the harm."""
        self.harm = harm

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Append, with the harm at every failpoint."""

        def at(name: str) -> None:
            self.harm(place)
            failpoint(name)

        super().act(place, turn, at)


class Stuck(Append):
    """Cannot be resumed."""

    def check(self, place: Place, turn: int) -> Damage:
        """Fail as a store would that does not open."""
        raise RuntimeError("planted")


class Unreached(Append):
    """Never passes a failpoint."""

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Append both parts without a kill."""
        super().act(place, turn, lambda _: None)


def lose(place: Place) -> None:
    """Erase one shopper whose events were acknowledged."""
    with place.store() as store:
        store.erase(SHOPPERS[0])


def double(place: Place) -> None:
    """Store acknowledged events once more, past the check of their ids."""
    with place.store() as store:
        rows = [replace(event, event_id=None) for event in batch(0, "acknowledged")]
        store.append(rows)


FAULTS: dict[str, Callable[[], Append]] = {
    "lost": lambda: Harmful(lose),
    "doubled": lambda: Harmful(double),
    "stuck": Stuck,
    "unreached": Unreached,
}


def main() -> None:
    """Kill once, in the way that the command line names."""
    place = Place(url=f"sqlite:///{sys.argv[2]}/store.db", folder=Path(sys.argv[2]))
    killed, damage = kill_repeatedly(FAULTS[sys.argv[1]](), "append: keys made", place, 1)
    print(json.dumps({"killed": killed, **asdict(damage)}))


if __name__ == "__main__":
    main()
