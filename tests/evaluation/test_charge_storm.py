"""A sample of the storm of charges from several processes, on both databases, and that its measure can fail."""

from __future__ import annotations

from pathlib import Path

from evaluation.bench.faults_charges import (
    BLOCK,
    CAP_MU2,
    PRICE_MU2,
    block_of,
    charge_of,
    charge_storm,
    compared,
)
from evaluation.settings import Watch
from privacy.database import open_engine, writing
from privacy.ledger_place import ledger_at
from privacy.schema import accounts


def test_processes_that_charge_at_once_never_overspend_one_shopper(database_url: str, tmp_path: Path) -> None:
    """Three processes present more than the cap allows: it is filled, not passed, and sums are what was granted."""
    steps: list[None] = []
    storm = charge_storm(
        database_url,
        tmp_path / "keys",
        processes=3,
        charges=30_000,
        watch=Watch(step=lambda: steps.append(None)),
    )
    assert (storm.overspent, storm.unlike, len(steps)) == (0, 0, 3)
    assert storm.requested >= 30_000
    assert storm.refused > 0 and storm.repeated > 0
    assert storm.requested == storm.granted + BLOCK * (storm.refused + storm.repeated)
    ledger = ledger_at(database_url, tmp_path / "keys")
    assert ledger.spent("devices") == CAP_MU2
    ledger.close()


def test_an_account_that_holds_another_sum_is_counted(database_url: str, tmp_path: Path) -> None:
    """The measure sees charges that were acknowledged and are not there, the reverse, and an account past the cap."""
    ledger = ledger_at(database_url, tmp_path / "keys")
    first, second = (0, 0), (1, BLOCK)
    ledger.reserve(charge_of(first), block_of(first), CAP_MU2)
    assert compared(ledger, [first]) == (0, 0)
    assert compared(ledger, [first, second]) == (0, BLOCK)
    assert compared(ledger, []) == (0, BLOCK)
    engine = open_engine(database_url)
    with writing(engine) as connection:
        this = accounts.c.subject == block_of(first)[7]
        connection.execute(accounts.update().where(this).values(spent_mu2=CAP_MU2 + PRICE_MU2))
    engine.dispose()
    assert compared(ledger, [first]) == (1, 1)
    ledger.close()
