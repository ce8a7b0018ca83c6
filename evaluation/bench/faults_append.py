"""Append, erase and migrate under kills."""

from __future__ import annotations

from typing import Final

from evaluation.bench.faults_scenarios import REGULARS, SHOPPERS, Damage, Place, batch, compare, ids, stored
from privacy.database import migrate, open_engine
from privacy.failpoints import Failpoint

_OLDER_REVISION: Final = "0001"


class Append:
    """A batch is appended after another one was acknowledged; then the batch is appended again."""

    passes = 1

    def prepare(self, place: Place) -> None:
        """Make the store."""
        place.store().close()

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Append one part that is acknowledged, and one in which the kill comes."""
        with place.store() as store:
            store.append(batch(turn, "acknowledged"))
        with place.store(failpoint) as store:
            store.append(batch(turn, "killed"))

    def check(self, place: Place, turn: int) -> Damage:
        """What was acknowledged is there once; the killed batch whole or not at all, and once when repeated."""
        past = [
            one
            for before in range(turn)
            for part in ("acknowledged", "killed")
            for one in ids(batch(before, part))
        ]
        acknowledged, killed = past + ids(batch(turn, "acknowledged")), ids(batch(turn, "killed"))
        with place.store() as store:
            damage = compare(stored(store), acknowledged, killed)
            store.append(batch(turn, "killed"))
            damage += compare(stored(store), acknowledged + killed, ())
            return damage + Damage(unresumed=int(bool(store.quarantined)))


class Erase:
    """One shopper is erased while others stay; then the erasure is repeated, and the shopper comes back."""

    passes = 1

    def prepare(self, place: Place) -> None:
        """Make the store."""
        place.store().close()

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Append for this turn, and erase the shopper who came in it."""
        with place.store() as store:
            store.append(batch(turn, "acknowledged"))
        with place.store(failpoint) as store:
            store.erase(_comer(turn))

    def check(self, place: Place, turn: int) -> Damage:
        """The others keep everything; the erased one has nothing after the repetition, and can come back."""
        with place.store() as store:
            store.erase(_comer(turn))
            left = len(store.history(_comer(turn))) + (_comer(turn) in store.shoppers())
            store.append([event for event in batch(turn, "back") if event.shopper == _comer(turn)])
            damage = compare(stored(store), _kept(turn), ())
            return damage + Damage(unresumed=int(bool(left or store.quarantined)))


class Migrate:
    """The tables go down to the older revision and, killed, up again; then the migration is repeated."""

    passes = 1

    def prepare(self, place: Place) -> None:
        """Make a store with events."""
        with place.store() as store:
            store.append(batch(0, "acknowledged"))

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Append for this turn, go down, and up with the kill."""
        with place.store() as store:
            store.append(batch(turn, "acknowledged"))
        engine = open_engine(place.url)
        migrate(engine, _OLDER_REVISION, discard=True)
        migrate(engine, failpoint=failpoint)

    def check(self, place: Place, turn: int) -> Damage:
        """After the migration was repeated the store opens, holds everything once, and takes more."""
        engine = open_engine(place.url)
        migrate(engine)
        engine.dispose()
        acknowledged = [one for before in range(turn + 1) for one in ids(batch(before, "acknowledged"))]
        with place.store() as store:
            damage = compare(stored(store), acknowledged, ())
            again = store.append(batch(turn, "acknowledged"))
            return damage + Damage(doubled=again, unresumed=int(bool(store.quarantined)))


def _comer(turn: int) -> str:
    return SHOPPERS[len(REGULARS) + turn]


def _kept(turn: int) -> list[str]:
    """Return the ids of the events that erasures left, and of those that came after them."""
    kept = []
    for before in range(turn + 1):
        kept += ids(event for event in batch(before, "acknowledged") if event.shopper in REGULARS)
        kept += ids(event for event in batch(before, "back") if event.shopper not in REGULARS)
    return kept
