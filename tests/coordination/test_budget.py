"""The coordinator's account, and the noise on what it releases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_words import config, public_items
from scipy import stats

from privacy.accountant import BudgetError, mu_of
from privacy.errors import BudgetExceeded
from privacy.ledger_place import ledger_at
from privacy.ledger_records import ChargeState
from privacy.plan import Stage, Trust, budget_mu2
from proto.federation import Task
from server.coordination.budget import HOLDER, Releaser, open_account, plan_of
from server.coordination.federation_plan import RunningPlan

ITEMS = public_items(["a", "a", "b"])
CAP = mu_of(8.0, 1e-6) ** 2


def task(number: int, mu2: float, trust: str = "central", cap: float = CAP) -> Task:
    """A task of round `number` that costs `mu2`."""
    return Task(
        release_id=f"toy/x/{number}",
        stage="gradient",
        round=number,
        model_hash="h",
        trust=trust,
        clipping_norm=1.0,
        noise_multiplier=mu2**-0.5,
        mu2=mu2,
        cap_mu2=cap,
        steps=1,
        expected_shoppers=1,
        clock=True,
        seed=0,
        noise_seed=-1,
    )


def test_a_reservation_is_spent_for_good_and_a_commit_only_notes_it(tmp_path: Path) -> None:
    """Reserved counts as spent at once; the release leaves later; repeating costs nothing."""
    account = open_account(config(tmp_path), ITEMS)
    account.reserve(task(1, 0.5))
    assert account.spent_mu2() == 0.5
    account.reserve(task(1, 0.5))
    account.commit(task(1, 0.5))
    account.reserve(task(2, 0.25))
    assert account.spent_mu2() == 0.75
    states = [record.state for record in ledger_at(tmp_path / "ledger.db").charges(HOLDER)]
    assert states == [ChargeState.COMMITTED, ChargeState.RESERVED]


def test_a_round_that_would_overspend_is_refused_and_charges_nothing(tmp_path: Path) -> None:
    """The cap holds over all rounds together."""
    account = open_account(config(tmp_path), ITEMS)
    account.reserve(task(1, 0.75 * CAP))
    with pytest.raises(BudgetExceeded):
        account.reserve(task(2, 0.26 * CAP))
    assert account.spent_mu2() == 0.75 * CAP
    account.reserve(task(3, 0.25 * CAP))


def test_trust_none_charges_nothing(tmp_path: Path) -> None:
    """What promises nothing costs nothing, and is in no account."""
    account = open_account(config(tmp_path, trust="none"), ITEMS)
    account.reserve(task(1, 1.0, trust="none"))
    account.commit(task(1, 1.0, trust="none"))
    assert ledger_at(tmp_path / "ledger.db").charges() == []


def test_each_federation_has_an_account_of_its_own(tmp_path: Path) -> None:
    """Another catalogue or kind of participants is another account; the same ones continue the old."""
    account = open_account(config(tmp_path), ITEMS)
    account.reserve(task(1, 0.5))
    assert open_account(config(tmp_path), ITEMS).spent_mu2() == 0.5
    assert open_account(config(tmp_path, participants="merchants"), ITEMS).spent_mu2() == 0.0
    assert open_account(config(tmp_path), public_items(["a", "a", "b", "b"])).spent_mu2() == 0.0


def test_the_plan_is_for_what_is_left_after_the_higher_of_both_accounts(tmp_path: Path) -> None:
    """Participants may have spent more than this federation, or it more than they."""
    account = open_account(config(tmp_path), ITEMS)
    assert plan_of(config(tmp_path), account).mu2 == pytest.approx(CAP)
    account.reserve(task(1, 0.25 * CAP))
    assert plan_of(config(tmp_path), account).mu2 == pytest.approx(0.75 * CAP)
    assert plan_of(config(tmp_path, spent_mu2=0.5 * CAP), account).mu2 == pytest.approx(0.5 * CAP)
    assert plan_of(config(tmp_path, spent_mu2=0.1 * CAP), account).mu2 == pytest.approx(0.75 * CAP)
    with pytest.raises(BudgetError, match=r"used up.*raise --epsilon"):
        plan_of(config(tmp_path, spent_mu2=CAP), account)
    assert plan_of(config(tmp_path, trust="none", spent_mu2=CAP), account).spent_mu2 == 0.0


def test_a_federation_of_processes_is_told_to_agree_anew(tmp_path: Path) -> None:
    """It has no --epsilon: its members have signed one. What was spent counts under the delta that noise leaves."""
    words = config(tmp_path, journal=str(tmp_path / "journal"), trust="distributed")
    account = open_account(words, ITEMS)
    spent = budget_mu2(Trust.DISTRIBUTED, words.epsilon, words.delta)
    with pytest.raises(BudgetError, match="new agreement of all members") as refusal:
        plan_of(replace(words, spent_mu2=spent), account)
    told = str(refusal.value)
    assert "--epsilon" not in told and f"spent epsilon {words.epsilon:g} of {words.epsilon:g}" in told
    running = RunningPlan(words, account, plan_of(words, account), 0.0)
    account.reserve(task(1, spent))
    running.outdate()
    with pytest.raises(BudgetError, match="new agreement of all members"):
        running.refresh()


@pytest.mark.parametrize("seed", [-1, 5])
def test_a_central_release_has_the_planned_noise(tmp_path: Path, seed: int) -> None:
    """The noise in each entry is Gaussian with the plan's deviation, and not with one 3 % away from it."""
    words = config(tmp_path, noise_seed=seed)
    plan = plan_of(words, open_account(words, ITEMS))
    releaser = Releaser(words, plan)
    release = plan.of(Stage.GRADIENT)
    assert release.noise_multiplier is not None
    std = release.noise_multiplier * release.clipping_norm
    assert releaser.noise_std(Stage.GRADIENT) == pytest.approx(std)
    noise = releaser.released(Stage.GRADIENT, np.full(100_000, 7.0)) - 7.0
    assert stats.kstest(noise / std, "norm").pvalue > 1e-4
    assert chi_square(noise, std) > 1e-6
    for wrong in (0.97 * std, 1.03 * std):
        assert chi_square(noise, wrong) < 1e-6


def chi_square(noise: np.ndarray[tuple[int], np.dtype[np.float64]], std: float) -> float:
    """Two-sided p-value of the variance of normal noise."""
    statistic = float(np.sum((noise / std) ** 2))
    return 2.0 * min(stats.chi2.cdf(statistic, noise.size), stats.chi2.sf(statistic, noise.size))


def test_system_noise_never_repeats_and_seeded_noise_does(tmp_path: Path) -> None:
    """Only a seed that a simulation passed makes two runs alike."""
    zeros = np.zeros(8)
    for seed, alike in ((-1, False), (5, True)):
        words = config(tmp_path, noise_seed=seed)
        plan = plan_of(words, open_account(words, ITEMS))
        first = Releaser(words, plan).released(Stage.COUNTS, zeros)
        second = Releaser(words, plan).released(Stage.COUNTS, zeros)
        assert np.array_equal(first, second) is alike


def test_the_coordinator_adds_nothing_where_participants_have_or_nobody_does(tmp_path: Path) -> None:
    """Under local trust the sum is noised already; its deviation is known from the public number of shoppers."""
    total = np.array([1.0, 2.0])
    for trust, participants, factor in (
        ("local", "merchants", 1.0),
        ("local", "shoppers", 10.0),
        ("none", "shoppers", 0.0),
    ):
        words = config(tmp_path, trust=trust, participants=participants, shoppers=100)
        plan = plan_of(words, open_account(words, ITEMS))
        releaser = Releaser(words, plan)
        np.testing.assert_array_equal(releaser.released(Stage.GRAM, total), total)
        multiplier = plan.of(Stage.GRAM).noise_multiplier or 0.0
        assert releaser.noise_std(Stage.GRAM) == pytest.approx(factor * multiplier)


def test_runs_share_the_budget_evenly_and_the_last_takes_what_is_left(tmp_path: Path) -> None:
    """The second of three runs plans a third, on top of what was spent; the fourth is refused."""
    account = open_account(config(tmp_path), ITEMS)
    three = config(tmp_path, runs=3, spent_mu2=CAP / 3)
    assert plan_of(three, account).mu2 == pytest.approx(CAP / 3)
    assert plan_of(config(tmp_path, runs=3, spent_mu2=0.9 * CAP), account).mu2 == pytest.approx(0.1 * CAP)
    with pytest.raises(BudgetError, match="used up"):
        plan_of(config(tmp_path, runs=3, spent_mu2=CAP), account)
