"""The budget ledger: spends once, never too much, never back, on SQLite and on PostgreSQL."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger_world import charge, die_at, opened, subjects

from privacy.errors import (
    BudgetExceeded,
    DatabaseError,
    DatabaseMissing,
    InvalidCharge,
    LedgerConflict,
    LedgerError,
    UnknownCharge,
)
from privacy.failpoints import FAILPOINTS
from privacy.ledger import Ledger
from privacy.ledger_records import ChargeState
from privacy.pseudonyms import NotAPseudonym

_START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_processes = multiprocessing.get_context("forkserver")


class _Clock:
    """A clock that goes on by one second each time that it is read."""

    def __init__(self) -> None:
        self.now = _START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The folder of the ledger's keyring."""
    return tmp_path / "keys"


@pytest.fixture
def ledger(database_url: str, keys: Path) -> Iterator[Ledger]:
    """A new ledger on each kind of database."""
    ledger = opened(database_url, keys, clock=_Clock())
    yield ledger
    ledger.close()


def test_a_reservation_is_spent_by_every_shopper_of_the_cohort_and_by_no_other(ledger: Ledger) -> None:
    """The charge lands on the cohort's accounts with this holder only."""
    assert ledger.reserve(charge(), subjects(3), 1.0)
    assert ledger.reserve(charge("r2", mu2=0.5), subjects(2, first=2), 1.0)
    assert ledger.spent("devices") == 0.75
    assert ledger.spent("devices", subjects(2)) == 0.25
    assert ledger.spent("devices", subjects(2, first=7)) == 0.0
    assert ledger.spent("shop-1") == 0.0
    by_subject = ledger.spent_by_subject("devices")
    assert by_subject == dict(zip(subjects(4), [0.25, 0.25, 0.75, 0.5], strict=True))
    assert ledger.spent_by_subject("devices", subjects(1)) == {subjects(1)[0]: 0.25}


def test_the_same_reservation_again_costs_nothing_and_says_so(ledger: Ledger) -> None:
    """A retry with equal parameters and cohort, in any order, is answered False and charges nobody."""
    assert ledger.reserve(charge(), subjects(3), 1.0)
    assert not ledger.reserve(charge(), subjects(3)[::-1], 1.0)
    assert ledger.spent("devices") == 0.25
    assert len(ledger.charges()) == 1


def test_a_release_id_cannot_be_used_for_another_release(ledger: Ledger) -> None:
    """Other parameters or another cohort of the same size under a known release id are refused."""
    ledger.reserve(charge(), subjects(3), 1.0)
    with pytest.raises(LedgerConflict, match="other parameters"):
        ledger.reserve(charge(mu2=0.1), subjects(3), 1.0)
    with pytest.raises(LedgerConflict, match="other parameters"):
        ledger.reserve(replace(charge(), noise_multiplier=1.0), subjects(3), 1.0)
    with pytest.raises(LedgerConflict, match="another cohort"):
        ledger.reserve(charge(), subjects(3, first=1), 1.0)
    assert ledger.reserve(charge(holder="shop-1"), subjects(3), 1.0), "each holder has its own account"
    assert ledger.spent("devices") == 0.25


def test_overspending_one_shopper_charges_nobody(ledger: Ledger) -> None:
    """One shopper over the cap refuses the whole cohort; the message says how many and the cap."""
    ledger.reserve(charge("r1", mu2=0.875), subjects(1), 1.0)
    with pytest.raises(BudgetExceeded) as refusal:
        ledger.reserve(charge("r2"), subjects(5), 1.0)
    assert "1 of 5 shoppers" in str(refusal.value)
    assert "mu^2 = 1 " in str(refusal.value)
    assert "0.875" in str(refusal.value)
    assert subjects(1)[0] not in str(refusal.value)
    assert ledger.spent_by_subject("devices") == {subjects(1)[0]: 0.875}
    assert [record.charge.release_id for record in ledger.charges()] == ["r1"]


def test_a_price_above_the_cap_is_refused_to_newcomers_too(ledger: Ledger) -> None:
    """Who has no account yet has the cap's whole room and no more; nobody gets an account by a refusal."""
    with pytest.raises(BudgetExceeded, match=r"3 of 3 shoppers.*the highest has spent 0\)"):
        ledger.reserve(charge(mu2=1.25), subjects(3), 1.0)
    assert ledger.spent_by_subject("devices") == {}
    assert ledger.reserve(charge(mu2=1.0), subjects(3), 1.0)


def test_a_refusal_names_what_those_had_spent_who_could_not_pay(ledger: Ledger) -> None:
    """Not what others would have after the charge that was taken back."""
    ledger.reserve(charge("r1", mu2=0.875), subjects(1), 1.0)
    ledger.reserve(charge("r2", mu2=0.75), subjects(2, first=1), 1.0)
    with pytest.raises(BudgetExceeded, match=r"1 of 4 shoppers.*the highest has spent 0\.875\)"):
        ledger.reserve(charge("r3"), subjects(4), 1.0)


def test_the_cap_can_be_spent_to_its_end_and_not_beyond(ledger: Ledger) -> None:
    """Three charges of 0.1 fill a cap of 0.3, although their binary sum is a little more; no more fits."""
    assert 0.1 + 0.1 + 0.1 > 0.3
    for number in range(3):
        ledger.reserve(charge(f"r{number}", mu2=0.1), subjects(2), 0.3)
    with pytest.raises(BudgetExceeded, match="2 of 2 shoppers"):
        ledger.reserve(charge("r3", mu2=1e-6), subjects(2), 0.3)
    assert ledger.spent("devices") == pytest.approx(0.3)


def test_a_commit_marks_the_release_and_gives_nothing_back(ledger: Ledger) -> None:
    """Reserve, commit, commit again: the state and both times stay, the budget is still spent."""
    ledger.reserve(charge(), subjects(1), 1.0)
    assert ledger.charges()[0].state is ChargeState.RESERVED
    ledger.commit("r1", "devices")
    ledger.commit("r1", "devices")
    (record,) = ledger.charges("devices")
    assert record.charge == charge()
    assert (record.state, record.subjects) == (ChargeState.COMMITTED, 1)
    assert datetime.fromisoformat(record.reserved_at) == _START + timedelta(seconds=1)
    assert datetime.fromisoformat(str(record.committed_at)) == _START + timedelta(seconds=2)
    assert ledger.spent("devices") == 0.25


def test_what_was_never_reserved_cannot_be_committed(ledger: Ledger) -> None:
    """A commit of an unknown release is an error, not a silent nothing."""
    with pytest.raises(UnknownCharge, match="'r9'"):
        ledger.commit("r9", "devices")


def test_a_statement_lists_every_holder_with_its_highest_account(ledger: Ledger) -> None:
    """The statement of all holders is sorted and complete; one holder alone can be asked for."""
    ledger.reserve(charge("r2", "shop-2", 0.5), subjects(2), 1.0)
    ledger.reserve(charge("r1", "shop-1", 0.125), subjects(3), 1.0)
    ledger.reserve(charge("r3", "shop-1", 0.125), subjects(1), 1.0)
    first, second = ledger.statement()
    assert (first.holder, first.accounts, first.highest_mu2) == ("shop-1", 3, 0.25)
    assert [record.charge.release_id for record in first.charges] == ["r1", "r3"]
    assert (second.holder, second.accounts, second.highest_mu2) == ("shop-2", 2, 0.5)
    assert ledger.statement("shop-2") == (second,)
    assert ledger.statement("shop-3")[0].accounts == 0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1])
def test_amounts_that_no_release_can_have_are_refused(ledger: Ledger, wrong: float) -> None:
    """Prices and caps must be finite and not negative; a NaN cap must not turn the check off."""
    with pytest.raises(InvalidCharge, match="mu2"):
        charge(mu2=wrong)
    with pytest.raises(InvalidCharge, match="cap"):
        ledger.reserve(charge(), subjects(1), wrong)
    assert ledger.statement() == ()


def test_a_cohort_of_shopper_ids_or_of_repeated_names_is_refused(ledger: Ledger) -> None:
    """Only pseudonyms enter the ledger, each once, and the refusal does not repeat what it refused."""
    with pytest.raises(NotAPseudonym) as refusal:
        ledger.reserve(charge(), ["alice@example.com"], 1.0)
    assert "alice" not in str(refusal.value)
    with pytest.raises(LedgerError, match="1 of 2"):
        ledger.reserve(charge(), subjects(1) * 2, 1.0)


def test_an_account_goes_on_after_the_ledger_is_opened_again(database_url: str, keys: Path) -> None:
    """A second run against the same ledger finds the first run's spending and the same ledger."""
    first = opened(database_url, keys)
    first.reserve(charge(mu2=0.75), subjects(2), 1.0)
    identity = first.identity
    first.close()
    second = opened(database_url, keys, create=False)
    assert second.spent("devices") == 0.75
    assert second.identity == identity
    with pytest.raises(BudgetExceeded):
        second.reserve(charge("r2", mu2=0.5), subjects(2), 1.0)
    second.close()


def _reserve_and_die(url: str, keys: Path, failpoint: str) -> None:
    opened(url, keys, failpoint=die_at(failpoint)).reserve(charge(), subjects(100), 1.0)


@pytest.mark.parametrize("failpoint", FAILPOINTS["charge"])
def test_a_killed_process_leaves_all_of_a_reservation_or_nothing(
    database_url: str, keys: Path, failpoint: str
) -> None:
    """kill -9 before the commit leaves no trace; after it all is spent, and no restart refunds or refuses it."""
    process = _processes.Process(target=_reserve_and_die, args=(database_url, keys, failpoint))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    spent = 0.25 if failpoint in ("charge: after commit", "charge: remembered") else 0.0
    ledger = opened(database_url, keys)
    assert ledger.spent("devices") == spent
    assert len(ledger.spent_by_subject("devices")) == (100 if spent else 0)
    assert ledger.reserve(charge(), subjects(100), 1.0) is (spent == 0.0)
    assert ledger.spent("devices") == 0.25
    assert ledger.verify() == 1
    ledger.close()


def _reserve_many(url: str, keys: Path, name: str, granted: "multiprocessing.Queue[int]") -> None:
    ledger, count = opened(url, keys), 0
    for number in range(30):
        cohort = subjects(20, first=number % 3)
        try:
            count += ledger.reserve(charge(f"{name}-{number}", mu2=0.1), cohort[:: (-1) ** number], 1.0)
        except BudgetExceeded:
            continue
    granted.put(count)


def test_several_processes_together_never_overspend(database_url: str, keys: Path) -> None:
    """Three processes race for overlapping cohorts, from an absent ledger on; no grant is lost."""
    granted = _processes.Queue()
    processes = [
        _processes.Process(target=_reserve_many, args=(database_url, keys, f"p{n}", granted))
        for n in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    ledger = opened(database_url, keys, create=False)
    records = ledger.charges()
    assert len(records) == sum(granted.get(timeout=5) for _ in processes)
    assert ledger.spent("devices") == pytest.approx(1.0), "the shoppers whom all cohorts share spent it all"
    assert sum(ledger.spent_by_subject("devices").values()) == pytest.approx(0.1 * 20 * len(records))
    ledger.close()


def test_the_same_reservation_from_several_threads_is_spent_once(ledger: Ledger) -> None:
    """Three threads present each release at the same moment: one of them spends, two are told it was there."""
    together = threading.Barrier(3)

    def present(_: int) -> int:
        spent = 0
        for number in range(20):
            together.wait(60)
            spent += ledger.reserve(charge(f"r{number}", mu2=0.01), subjects(50), 1.0)
        return spent

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(present, range(3))) == 20
    assert ledger.spent("devices") == pytest.approx(0.2)


def test_one_transaction_charges_a_large_cohort(database_url: str, keys: Path) -> None:
    """Two overlapping cohorts of 20,000: each shopper is charged once for each cohort it is in."""
    ledger = opened(database_url, keys)
    ledger.reserve(charge(), subjects(20_000), 1.0)
    ledger.reserve(charge("r2"), subjects(20_000, first=10_000), 1.0)
    spent = ledger.spent_by_subject("devices")
    assert len(spent) == 30_000
    assert sum(spent.values()) == 0.25 * 40_000
    ledger.close()


def test_a_missing_ledger_is_an_error_where_none_may_be_made(
    database_url: str, keys: Path, tmp_path: Path
) -> None:
    """Asking for the budget of a wrong path or an empty database must not answer that nothing was spent."""
    with pytest.raises(DatabaseMissing):
        opened(database_url, keys, create=False)
    with pytest.raises(DatabaseMissing, match="no-such-folder"):
        opened(str(tmp_path / "no-such-folder" / "ledger.db"), keys)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "SQLite file"),
        ("mysql://me:secret@host/name", "mysql://me:"),
        ("postgresql://me:secret@:port/name", "malformed"),
        ("postgresql://me:secret@127.0.0.1:1/name?connect_timeout=2", "failed"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_clear_line_without_its_password(
    url: str, message: str, keys: Path
) -> None:
    """Wrong URLs and unreachable servers are refused in one line that never shows a password."""
    with pytest.raises(DatabaseError, match=message) as refusal:
        opened(url, keys)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, keys: Path) -> None:
    """A text file given as ledger is named, not overwritten."""
    path = tmp_path / "notes.txt"
    path.write_text("shopping list\n" * 100)
    with pytest.raises(DatabaseError, match=r"notes\.txt"):
        opened(str(path), keys)
    assert path.read_text().startswith("shopping list")
