"""A merchant's quota bounds all of its releases together, whichever of its shoppers pay, on both databases."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ledger_world import backup_of, charge, opened, restore, subjects
from sqlalchemy import update

from privacy.accountant import mu_of
from privacy.database import writing
from privacy.errors import BudgetExceeded, InvalidCharge, LedgerDamaged, LedgerRolledBack, QuotaExceeded
from privacy.ledger import Ledger
from privacy.ledger_records import Quota
from privacy.plan import Plan, Stage, Trust, make_plan
from privacy.schema import quotas
from proto.federation import DEVICES
from server.coordination.budget import HOLDER as COORDINATOR
from simulation.population import Population


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger on each kind of database."""
    ledger = opened(database_url, tmp_path / "keys")
    yield ledger
    ledger.close()


def test_releases_to_different_shoppers_use_up_one_quota(ledger: Ledger) -> None:
    """No shopper is near its cap, but the merchant's releases together are; the refusal says how near."""
    ledger.set_quota("shop-1", 0.5)
    for number in range(2):
        assert ledger.reserve(charge(f"r{number}", "shop-1"), subjects(3, first=3 * number), 4.0)
    with pytest.raises(QuotaExceeded) as refusal:
        ledger.reserve(charge("r2", "shop-1"), subjects(3, first=6), 4.0)
    for words in ("'shop-1'", "mu^2 = 0.5 of its quota of 0.5", "0.25 more", "fedrank privacy quota"):
        assert words in str(refusal.value)
    assert ledger.spent("shop-1", subjects(3, first=6)) == 0.0
    assert len(ledger.charges("shop-1")) == 2
    assert ledger.verify() == 2


def test_a_quota_bounds_one_merchant_and_no_other(ledger: Ledger) -> None:
    """A merchant without a quota has only its shoppers' cap."""
    ledger.set_quota("shop-1", 0.0)
    with pytest.raises(QuotaExceeded):
        ledger.reserve(charge("r1", "shop-1"), subjects(1), 4.0)
    assert ledger.reserve(charge("r1", "shop-2"), subjects(1), 4.0)
    assert ledger.reserve(charge("r1", "devices"), subjects(1), 4.0)


def test_a_quota_counts_what_was_spent_before_it_was_set(ledger: Ledger) -> None:
    """A quota below that leaves nothing, and one above it the rest."""
    ledger.reserve(charge("r1", "shop-1"), subjects(2), 4.0)
    assert ledger.set_quota("shop-1", 0.125) == Quota(limit_mu2=0.125, spent_mu2=0.25)
    assert ledger.statement("shop-1")[0].quota == Quota(limit_mu2=0.125, spent_mu2=0.25)
    with pytest.raises(QuotaExceeded):
        ledger.reserve(charge("r2", "shop-1", 0.001), subjects(2), 4.0)
    assert ledger.set_quota("shop-1", 0.5).left_mu2 == 0.25
    assert ledger.reserve(charge("r2", "shop-1"), subjects(2), 4.0)


def test_what_a_shoppers_cap_refuses_costs_the_merchant_nothing(ledger: Ledger) -> None:
    """Quota and accounts are changed together or not at all; a repetition changes neither."""
    ledger.set_quota("shop-1", 1.0)
    ledger.reserve(charge("r1", "shop-1"), subjects(2), 0.25)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(charge("r2", "shop-1"), subjects(2), 0.25)
    assert not ledger.reserve(charge("r1", "shop-1"), subjects(2), 0.25)
    quota = ledger.statement("shop-1")[0].quota
    assert quota is not None and quota.spent_mu2 == 0.25
    assert ledger.verify() == 1


def test_a_quota_can_be_spent_to_its_end(ledger: Ledger) -> None:
    """Three charges of 0.1 fill a quota of 0.3, although their binary sum is a little more; no more fits."""
    ledger.set_quota("shop-1", 0.3)
    for number in range(3):
        ledger.reserve(charge(f"r{number}", "shop-1", 0.1), subjects(2), 4.0)
    with pytest.raises(QuotaExceeded):
        ledger.reserve(charge("r3", "shop-1", 1e-6), subjects(2), 4.0)


def test_a_removed_quota_leaves_the_cap(ledger: Ledger) -> None:
    """Removing says whether there was one."""
    ledger.set_quota("shop-1", 0.0)
    assert ledger.remove_quota("shop-1")
    assert not ledger.remove_quota("shop-1")
    assert ledger.reserve(charge("r1", "shop-1"), subjects(2), 0.25)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(charge("r2", "shop-1"), subjects(2), 0.25)


@pytest.mark.parametrize(("holder", "limit"), [("shop-1", float("nan")), ("shop-1", -1.0), ("", 1.0)])
def test_a_quota_that_means_nothing_is_refused(ledger: Ledger, holder: str, limit: float) -> None:
    """A limit is finite and not negative, and a holder has a name."""
    with pytest.raises(InvalidCharge, match="quota"):
        ledger.set_quota(holder, limit)
    assert ledger.statement() == ()


def test_a_quota_whose_spending_was_lowered_is_found(ledger: Ledger) -> None:
    """The running sum of a quota must be what the charges cost."""
    ledger.set_quota("shop-1", 1.0)
    ledger.reserve(charge("r1", "shop-1"), subjects(2), 4.0)
    with writing(ledger._engine) as connection:
        connection.execute(update(quotas).values(spent_mu2=0.0))
    with pytest.raises(LedgerDamaged, match="the quota of holder 'shop-1'"):
        ledger.verify()


@pytest.mark.parametrize("holder", ["shop-1", DEVICES, COORDINATOR])
def test_a_run_beyond_any_quota_is_refused_before_it_begins(
    ledger: Ledger, tmp_path: Path, holder: str
) -> None:
    """Whoever would be charged is asked: merchants, devices and the coordinator; a smaller run may start."""
    population = Population(
        folder=tmp_path, devices=("0" * 32,), merchants=("shop-1",), merchants_per_shopper=np.array([1])
    )

    def plan(epsilon: float) -> Plan:
        return make_plan(trust=Trust.CENTRAL, epsilon=epsilon, delta=1e-6, counts={Stage.GRADIENT: 2})

    ledger.set_quota(holder, mu_of(8.0, 1e-6) ** 2)
    population.check_quotas(ledger, plan(7.0))
    with pytest.raises(QuotaExceeded, match=holder):
        population.check_quotas(ledger, plan(20.0))


def test_an_older_ledger_without_a_later_quota_is_refused(
    ledger: Ledger, database_url: str, tmp_path: Path
) -> None:
    """No release came between, and still the copy from before the quota is known, also while it is in use."""
    ledger.reserve(charge("r1", "shop-1"), subjects(2), 4.0)
    old = backup_of(database_url)
    ledger.set_quota("shop-1", 0.25)
    restore(database_url, old)
    with pytest.raises(LedgerRolledBack, match="changed 0 times, but the keyring remembers 1"):
        opened(database_url, tmp_path / "keys")
    with pytest.raises(LedgerRolledBack):
        ledger.reserve(charge("r2", "shop-1"), subjects(2), 4.0)


def test_a_quota_that_was_raised_in_the_database_is_found(ledger: Ledger) -> None:
    """Quotas are covered by a keyed hash."""
    ledger.set_quota("shop-1", 0.25)
    with writing(ledger._engine) as connection:
        connection.execute(update(quotas).values(limit_mu2=8.0))
    with pytest.raises(LedgerDamaged, match="not those that were set"):
        ledger.reserve(charge("r1", "shop-1"), subjects(2), 4.0)


def test_a_crash_between_a_quota_and_the_keyring_is_caught_up(database_url: str, tmp_path: Path) -> None:
    """A keyring that did not hear of the quota accepts the ledger with it, and from then on remembers it."""
    opened(database_url, tmp_path / "keys").close()
    shutil.copytree(tmp_path / "keys", tmp_path / "unknowing")
    old = backup_of(database_url)
    ledger = opened(database_url, tmp_path / "keys")
    ledger.set_quota("shop-1", 0.25)
    ledger.close()
    opened(database_url, tmp_path / "unknowing").close()
    restore(database_url, old)
    with pytest.raises(LedgerRolledBack, match="the keyring remembers 1"):
        opened(database_url, tmp_path / "unknowing")
