"""Random histories of charges, crashes and restored backups: the ledger always agrees with a model in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_world import TABLES, Backup, backup_of, charge, is_refused, opened, restore, subjects

from privacy.errors import BudgetExceeded, LedgerConflict, LedgerRolledBack, QuotaExceeded
from privacy.failpoints import FAILPOINTS

CAP, EIGHTH = 1.0, 0.125
HOLDERS = st.sampled_from(["devices", "shop-1"])
COHORTS = st.sets(st.integers(0, 4), min_size=1).map(sorted)
PRICES = st.integers(1, 4).map(lambda eighths: eighths * EIGHTH)
"""Multiples of 1/8 add up exactly, so the model and the ledger must agree to the last bit."""

_numbers = itertools.count()


class Crash(BaseException):
    """Raised at a failpoint: whatever is in memory is lost, and what is durable stays."""


@dataclass
class Model:
    """What a ledger should hold."""

    spent: dict[tuple[str, int], float] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)
    quota_changes: int = 0
    releases: list[tuple[str, str, float, tuple[int, ...]]] = field(default_factory=list)

    @property
    def history(self) -> tuple[int, int]:
        """How many releases and changes of quotas there were; both only rise."""
        return len(self.releases), self.quota_changes

    def cost(self, holder: str) -> float:
        """What all releases of a holder have cost."""
        return sum(price for _, name, price, _ in self.releases if name == holder)

    def refusal(self, holder: str, price: float, cohort: list[int]) -> type[Exception] | None:
        """What a charge must be refused with."""
        if holder in self.quotas and self.cost(holder) + price > self.quotas[holder]:
            return QuotaExceeded
        too_much = any(self.spent.get((holder, one), 0.0) + price > CAP for one in cohort)
        return BudgetExceeded if too_much else None

    def spend(self, release: str, holder: str, price: float, cohort: list[int]) -> None:
        """Charge everybody."""
        self.releases.append((release, holder, price, tuple(cohort)))
        for one in cohort:
            self.spent[holder, one] = self.spent.get((holder, one), 0.0) + price


class LedgerMachine(RuleBasedStateMachine):
    """One ledger with its keyring, its backups, and the model."""

    url: str
    folder: Path

    def __init__(self) -> None:
        """Begin with an empty ledger and new keys."""
        super().__init__()
        self.keys = self.folder / f"keys-{next(_numbers)}"
        restore(self.url, {table.name: [] for table in TABLES})
        self.model = Model()
        self.backups: list[tuple[tuple[int, int], Backup]] = []
        self.ledger = opened(self.url, self.keys)

    @rule(holder=HOLDERS, price=PRICES, cohort=COHORTS)
    def reserve(self, holder: str, price: float, cohort: list[int]) -> None:
        """A new release is charged to all or refused with the model's reason."""
        release = f"r{next(_numbers)}"
        people = [subjects(1, first=one)[0] for one in cohort]
        refusal = self.model.refusal(holder, price, cohort)
        if refusal is not None:
            with pytest.raises(refusal):
                self.ledger.reserve(charge(release, holder, price), people, CAP)
            return
        assert self.ledger.reserve(charge(release, holder, price), people, CAP)
        self.model.spend(release, holder, price, cohort)

    @precondition(lambda self: self.model.releases)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A known release costs nothing again, and with another price it is refused."""
        release, holder, price, cohort = data.draw(st.sampled_from(self.model.releases))
        people = [subjects(1, first=one)[0] for one in cohort]
        assert not self.ledger.reserve(charge(release, holder, price), people, CAP)
        with pytest.raises(LedgerConflict):
            self.ledger.reserve(charge(release, holder, price + EIGHTH), people, CAP)
        self.ledger.commit(release, holder)

    @rule(holder=HOLDERS, price=PRICES, cohort=COHORTS, point=st.sampled_from(FAILPOINTS["charge"]))
    def crash(self, holder: str, price: float, cohort: list[int], point: str) -> None:
        """A crash leaves all of a charge or nothing, and the next start is not refused."""
        release = f"r{next(_numbers)}"
        people = [subjects(1, first=one)[0] for one in cohort]
        refused = self.model.refusal(holder, price, cohort) is not None
        if refused:
            return
        self.ledger.close()
        with closing(opened(self.url, self.keys, failpoint=_crash_at(point))) as dying, pytest.raises(Crash):
            dying.reserve(charge(release, holder, price), people, CAP)
        if point in ("charge: after commit", "charge: remembered"):
            self.model.spend(release, holder, price, cohort)
        self.ledger = opened(self.url, self.keys)

    @rule(holder=HOLDERS, limit=st.integers(0, 24).map(lambda eighths: eighths * EIGHTH))
    def set_quota(self, holder: str, limit: float) -> None:
        """A quota counts what was spent before."""
        self.model.quotas[holder] = limit
        self.model.quota_changes += 1
        assert self.ledger.set_quota(holder, limit).spent_mu2 == self.model.cost(holder)

    @rule(holder=HOLDERS)
    def remove_quota(self, holder: str) -> None:
        """Removing tells whether there was one."""
        had_one = self.model.quotas.pop(holder, None) is not None
        self.model.quota_changes += had_one
        assert self.ledger.remove_quota(holder) is had_one

    @rule()
    def back_up(self) -> None:
        """Keep a dump for later."""
        self.backups.append((self.model.history, backup_of(self.url)))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def restore_a_backup(self, data: st.DataObject) -> None:
        """A dump is accepted if no charge and no change of a quota came since; then the newest comes back."""
        history, dump = data.draw(st.sampled_from(self.backups))
        self.ledger.close()
        newest = backup_of(self.url)
        restore(self.url, dump)
        assert is_refused(self.url, self.keys, LedgerRolledBack) is (history != self.model.history)
        restore(self.url, newest)
        self.ledger = opened(self.url, self.keys)

    @invariant()
    def agrees(self) -> None:
        """Accounts, charges, quotas and chain are what the model says."""
        for holder in ("devices", "shop-1"):
            spent = self.ledger.spent_by_subject(holder)
            due = {
                subjects(1, first=one)[0]: mu2
                for (name, one), mu2 in self.model.spent.items()
                if name == holder
            }
            assert spent == due
            assert all(mu2 <= CAP for mu2 in spent.values())
        found = [(one.charge.release_id, one.charge.holder) for one in self.ledger.charges()]
        assert found == [(release, holder) for release, holder, _, _ in self.model.releases]
        assert {
            one.holder: one.quota.limit_mu2 for one in self.ledger.statement() if one.quota is not None
        } == self.model.quotas
        assert self.ledger.verify() == len(self.model.releases)

    def teardown(self) -> None:
        """Close what is open."""
        self.ledger.close()


def _crash_at(point: str) -> Callable[[str], None]:
    def failpoint(name: str) -> None:
        if name == point:
            raise Crash

    return failpoint


def test_any_history_of_charges_crashes_and_restores_agrees_with_the_model(
    database_url: str, tmp_path: Path
) -> None:
    """Random operations against a model in memory; nobody overspends, nothing comes back, no crash loses a charge."""

    class Here(LedgerMachine):
        """The machine on this test's database."""

        url, folder = database_url, tmp_path

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
