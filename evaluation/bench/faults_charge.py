"""Budget charges under kills."""

from __future__ import annotations

from typing import Final

from evaluation.bench.faults_scenarios import Damage, Place
from evaluation.bench.storage_world import HOLDER, pseudonyms
from privacy.errors import BudgetExceeded
from privacy.failpoints import Failpoint, no_failpoint
from privacy.ledger import Ledger
from privacy.ledger_records import Charge

SUBJECTS: Final = tuple(pseudonyms(20))
PRICE_MU2: Final = 0.25


class ChargeCohort:
    """A release is charged to a cohort whose cap it just fits; then the same charge is repeated."""

    passes = 1

    def prepare(self, place: Place) -> None:
        """Make the ledger."""
        _ledger(place).close()

    def act(self, place: Place, turn: int, failpoint: Failpoint) -> None:
        """Charge one release that is acknowledged, and one in which the kill comes."""
        ledger = _ledger(place)
        ledger.reserve(_charge(2 * turn), SUBJECTS, _cap(2 * turn))
        ledger.close()
        _ledger(place, failpoint).reserve(_charge(2 * turn + 1), SUBJECTS, _cap(2 * turn + 1))

    def check(self, place: Place, turn: int) -> Damage:
        """The ledger opens, holds what was charged, takes the killed charge once, and nothing beyond the cap."""
        ledger, last = _ledger(place), 2 * turn + 1
        damage = compare(ledger, last) if _is_there(ledger, last) else compare(ledger, last - 1)
        ledger.reserve(_charge(last), SUBJECTS, _cap(last))
        ledger.commit(_charge(last).release_id, HOLDER)
        damage += compare(ledger, last)
        try:
            ledger.reserve(_charge(last + 1), SUBJECTS[:1], _cap(last))
        except BudgetExceeded:
            return damage
        return damage + Damage(overspent=1)


def compare(ledger: Ledger, last: int) -> Damage:
    """Hold a ledger against charges 0 .. `last` of all subjects."""
    releases = [record.charge.release_id for record in ledger.charges(HOLDER)]
    due, spent = (last + 1) * PRICE_MU2, ledger.spent_by_subject(HOLDER)
    return Damage(
        lost=sum(_charge(number).release_id not in releases for number in range(last + 1))
        + sum(spent.get(subject, 0.0) < due for subject in SUBJECTS),
        doubled=max(0, len(releases) - last - 1),
        overspent=sum(value > due for value in spent.values()),
    )


def _is_there(ledger: Ledger, number: int) -> bool:
    return any(record.charge == _charge(number) for record in ledger.charges(HOLDER))


def _ledger(place: Place, failpoint: Failpoint = no_failpoint) -> Ledger:
    return Ledger.open(place.url, place.keyring(), failpoint=failpoint)


def _cap(number: int) -> float:
    """Return the cap that charges 0 .. `number` just fit."""
    return (number + 1) * PRICE_MU2


def _charge(number: int) -> Charge:
    return Charge(
        release_id=f"release-{number}",
        holder=HOLDER,
        stage="gradient",
        round=number,
        noise_multiplier=2.0,
        clipping_norm=1.0,
        mu2=PRICE_MU2,
    )
