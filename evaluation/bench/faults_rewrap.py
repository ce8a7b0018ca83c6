"""Rotation of the upper layers of keys under kills."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.bench.faults_scenarios import SHOPPERS, Damage, Place
from evaluation.bench.storage_world import HOLDER
from privacy.failpoints import Failpoint
from privacy.key_rotation import one_rotation, rotate_kek, rotate_wrapping
from privacy.keyring import Keyring
from privacy.keyring_status import status_of

_PRESENT = SHOPPERS[:200]
"""Shoppers with keys from the beginning; one more comes per turn."""


class Rewrap:
    """The key-encryption key and the wrapping secret are rotated and killed; then both are rotated again."""

    passes = 1

    def prepare(self, place: Place) -> None:
        """Make a keyring with keys of many shoppers."""
        _make(place, _PRESENT)

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Make keys for this turn, and rotate both layers."""
        _make(place, _present(turn))
        _rotate(place, failpoint)

    def check(self, place: Place, turn: int) -> Damage:
        """Every key opens, before and after the next rotation, which leaves one secret of each layer."""
        lost = _missing(place, _present(turn))
        _rotate(place, lambda _: None)
        lost += _missing(place, _present(turn))
        keyring = place.keyring()
        unfinished = status_of(keyring).unfinished
        keyring.close()
        return Damage(lost=lost, unresumed=int(bool(unfinished)))


def _present(turn: int) -> Sequence[str]:
    return [*_PRESENT, *SHOPPERS[len(_PRESENT) :][: turn + 1]]


def _make(place: Place, shoppers: Sequence[str]) -> None:
    keyring = place.keyring()
    keyring.holder(HOLDER).data_keys.newest(shoppers)
    keyring.close()


def _rotate(place: Place, failpoint: Failpoint) -> None:
    keyring = place.keyring()
    with one_rotation(keyring.folder):
        rotate_kek(keyring, failpoint=failpoint)
        rotate_wrapping(keyring, HOLDER, pace=0.0, failpoint=failpoint)
    keyring.close()


def _missing(place: Place, shoppers: Sequence[str]) -> int:
    """Return how many shoppers have no key that opens, or more than one."""
    keyring: Keyring = place.keyring()
    data_keys = keyring.holder(HOLDER).data_keys
    names = [(shopper, key_id) for shopper, own in data_keys.keys_of(shoppers).items() for key_id, _ in own]
    missing = abs(len(shoppers) - len(data_keys.find(names)))
    keyring.close()
    return missing
