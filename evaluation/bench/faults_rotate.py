"""Rotation of keys under kills."""

from __future__ import annotations

from client.events import Event
from client.store_rotation import reencrypt
from evaluation.bench.faults_scenarios import SHOPPERS, Damage, Place, batch, compare, ids, stored
from evaluation.bench.storage_world import START
from privacy.failpoints import Failpoint

_PRESENT = SHOPPERS[:120]
"""Shoppers with events from the beginning: several pages of a rotation."""


class Rotate:
    """A store is re-encrypted under new keys and killed; then the rotation is resumed."""

    passes = 2

    def prepare(self, place: Place) -> None:
        """Make a store with several pages of shoppers."""
        with place.store() as store:
            store.append(_first())

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Append for this turn, and re-encrypt everything."""
        with place.store() as store:
            store.append(batch(turn, "acknowledged"))
        with place.store(failpoint) as store:
            reencrypt(store.access, pace=0)

    def check(self, place: Place, turn: int) -> Damage:
        """Everything is there once, before and after the resumed rotation, which leaves one key to each shopper."""
        acknowledged = ids(_first())
        for before in range(turn + 1):
            acknowledged += ids(batch(before, "acknowledged"))
        with place.store() as store:
            damage = compare(stored(store), acknowledged, ())
            done = reencrypt(store.access, pace=0)
            damage += compare(stored(store), acknowledged, ())
            keys = store.access.keys.data_keys.keys_of(store.shoppers())
            mixed = sum([generation for _, generation in own] != [done.generation] for own in keys.values())
            return damage + Damage(unresumed=int(bool(mixed or store.quarantined)))


def _first() -> list[Event]:
    return [
        Event(shopper=name, item_id="item", kind="view", timestamp=START, event_id=f"first/{place}")
        for place, name in enumerate(_PRESENT)
    ]
