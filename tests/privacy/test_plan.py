"""The plan: spends a budget to the last digit, continues an old account, and says when nothing is left."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accountant import BudgetError, epsilon_of, mu_of
from privacy.distributed_noise import DELTA_SLACK
from privacy.errors import BudgetExceeded
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge
from privacy.plan import (
    CLIPPING_NORMS,
    SHARES,
    SMALLEST_MU2,
    Plan,
    Stage,
    Trust,
    gaussian_delta,
    make_plan,
    statistics_of,
)
from server.coordination.card import privacy_statement
from server.coordination.config import FederationConfig

ALL: Mapping[Stage, int] = {
    Stage.LINKAGE: 1,
    Stage.COUNTS: 1,
    Stage.GRAM: 1,
    Stage.SUBSPACE: 1,
    Stage.BASKETS: 1,
    Stage.GRADIENT: 6,
    Stage.FUSION: 1,
}
DELTA = 1e-6

budgets = st.floats(0.05, 50.0)
budgets_to_share = st.floats(0.3, 50.0)  # a twentieth of them is still useful
stage_counts = st.fixed_dictionaries({stage: st.integers(0, 40) for stage in Stage}).filter(
    lambda counts: any(counts.values())
)


def plan_of(
    epsilon: float = 8.0,
    *,
    trust: Trust = Trust.CENTRAL,
    counts: Mapping[Stage, int] = ALL,
    spent: float = 0.0,
) -> Plan:
    """A plan at a fixed delta."""
    return make_plan(trust=trust, epsilon=epsilon, delta=DELTA, counts=counts, spent_mu2=spent)


@given(budgets, stage_counts, st.sampled_from([Trust.DISTRIBUTED, Trust.CENTRAL, Trust.LOCAL]))
def test_the_releases_together_cost_exactly_the_cap(
    epsilon: float, counts: dict[Stage, int], trust: Trust
) -> None:
    """Whichever stages take part and however often, nothing is left over and nothing is overspent."""
    plan = plan_of(epsilon, trust=trust, counts=counts)
    assert plan.mu2 == pytest.approx(plan.cap_mu2, rel=1e-12)
    assert plan.cap_mu2 == mu_of(epsilon, gaussian_delta(trust, DELTA)) ** 2
    assert plan.total_epsilon() == pytest.approx(epsilon, rel=1e-8)
    assert plan.total_epsilon() <= epsilon


@given(budgets, stage_counts)
def test_stages_share_the_budget_as_stated_however_often_they_are_released(
    epsilon: float, counts: dict[Stage, int]
) -> None:
    """A stage's price is its share among those that take part; its releases divide it evenly."""
    plan = plan_of(epsilon, counts=counts)
    taking_part = [stage for stage, count in counts.items() if count]
    assert {release.stage for release in plan.releases} == set(taking_part)
    whole = sum(SHARES[stage] for stage in taking_part)
    for stage in Stage:
        assert plan.has(stage) == (stage in taking_part)
    for stage in taking_part:
        release = plan.of(stage)
        assert release.mu2 == pytest.approx(plan.cap_mu2 * SHARES[stage] / whole, rel=1e-9)
        assert release.count * release.mu2_each == release.mu2
        assert release.clipping_norm == CLIPPING_NORMS[stage]


def test_the_shares_are_a_whole_and_cover_every_stage() -> None:
    """Stated shares add up to 1, and every stage has one and a clipping norm."""
    assert math.fsum(SHARES.values()) == pytest.approx(1.0, abs=1e-15)
    assert set(SHARES) == set(CLIPPING_NORMS) == set(Stage)


@given(budgets_to_share, st.floats(0.0, 0.95))
def test_what_was_spent_before_is_taken_off(epsilon: float, part: float) -> None:
    """A second run continues the account: both together cost the budget, and its noise is the stronger."""
    spent = part * mu_of(epsilon, DELTA) ** 2
    first, second = plan_of(epsilon), plan_of(epsilon, spent=spent)
    assert second.mu2 + spent == pytest.approx(first.mu2, rel=1e-9)
    assert second.total_epsilon() == pytest.approx(epsilon, rel=1e-8)
    noise = [plan.of(Stage.GRAM).noise_multiplier for plan in (first, second)]
    assert noise[0] is not None and noise[1] is not None
    assert noise[1] == pytest.approx(noise[0] / math.sqrt(1 - part), rel=1e-9)


def test_the_ledger_takes_the_whole_plan_and_not_one_release_more(tmp_path: Path) -> None:
    """Release by release a real ledger accepts the plan to its cap, a second plan of half, and then refuses."""
    ledger = ledger_at(f"sqlite:///{tmp_path / 'ledger.db'}")
    shopper = f"{1:032x}"

    def pay(plan: Plan, run: int) -> None:
        for release in plan.releases:
            for number in range(release.count):
                charge = Charge(
                    release_id=f"{run}/{release.stage}/{number}",
                    holder="devices",
                    stage=str(release.stage),
                    round=number,
                    noise_multiplier=release.noise_multiplier or 0.0,
                    clipping_norm=release.clipping_norm,
                    mu2=release.mu2_each,
                )
                assert ledger.reserve(charge, [shopper], plan.cap_mu2)

    pay(plan_of(4.0), 1)
    later = plan_of(8.0, spent=ledger.spent("devices", [shopper]))
    pay(later, 2)
    spent = ledger.spent("devices", [shopper])
    assert spent == pytest.approx(later.cap_mu2, rel=1e-12)
    with pytest.raises(BudgetError):
        plan_of(8.0, spent=spent)
    with pytest.raises(BudgetExceeded):
        pay(plan_of(8.0, counts={Stage.LINKAGE: 1}), 3)
    ledger.close()


def test_an_exhausted_budget_is_refused_with_what_was_spent_and_what_to_do() -> None:
    """The message names both epsilons, delta, and the two ways on."""
    spent = mu_of(4.0, DELTA) ** 2
    with pytest.raises(BudgetError) as refusal:
        plan_of(4.0, spent=spent)
    message = str(refusal.value)
    assert "used up" in message
    assert "spent epsilon 4 of 4 at delta 1e-06" in message
    assert "raise --epsilon" in message and "wait for shoppers" in message
    with pytest.raises(BudgetError, match="spent epsilon 4 of 2"):
        plan_of(2.0, spent=spent)


def test_a_crumb_of_a_budget_is_refused_too() -> None:
    """Below SMALLEST_MU2 the noise would be over a hundred clipping norms; just above it is enough."""
    cap = mu_of(4.0, DELTA) ** 2
    with pytest.raises(BudgetError, match="used up"):
        plan_of(4.0, spent=cap - 0.99 * SMALLEST_MU2)
    assert plan_of(4.0, spent=cap - 1.01 * SMALLEST_MU2).mu2 == pytest.approx(1.01 * SMALLEST_MU2, rel=1e-6)
    with pytest.raises(BudgetError, match="too small"):
        plan_of(1e-4)


@pytest.mark.parametrize("spent", [-0.1, math.nan, math.inf])
def test_a_spending_that_no_ledger_can_hold_is_refused(spent: float) -> None:
    """A negative spending would be a gift, a NaN would pass every comparison."""
    with pytest.raises(BudgetError, match="see the ledger"):
        plan_of(spent=spent)


def test_negative_counts_and_impossible_budgets_are_refused() -> None:
    """Each with the flag that sets it or the bound that it misses."""
    with pytest.raises(BudgetError, match="--rounds"):
        plan_of(counts={Stage.GRADIENT: -1})
    for trust in Trust:
        with pytest.raises(BudgetError, match="epsilon is -1"):
            plan_of(-1.0, trust=trust)
        with pytest.raises(BudgetError, match="delta is 0"):
            make_plan(trust=trust, epsilon=8.0, delta=0.0, counts=ALL)


def test_trust_none_has_no_noise_an_infinite_price_and_a_null_epsilon() -> None:
    """Nobody is protected: mu^2 and epsilon are infinite, JSON says null, and no spent budget is in the way."""
    plan = plan_of(trust=Trust.NONE)
    assert [release.noise_multiplier for release in plan.releases] == [None] * len(Stage)
    assert plan.mu2 == plan.of(Stage.GRAM).mu2_each == math.inf
    assert plan.total_epsilon() == plan.epsilon_at_merchants(3) == math.inf
    statement = json.loads(json.dumps(privacy_statement(config_of(Trust.NONE), plan), allow_nan=False))
    assert statement["epsilon"] is None
    assert statement["mechanism"] == "none" and statement["trust"] == "none"
    assert [release["mu2"] for release in statement["releases"]] == [None] * len(Stage)


def test_the_statement_of_a_protected_plan_names_its_epsilon() -> None:
    """What the registry keeps is what the plan costs, release by release."""
    plan = plan_of(3.0)
    statement = json.loads(json.dumps(privacy_statement(config_of(Trust.CENTRAL), plan), allow_nan=False))
    assert statement["epsilon"] == pytest.approx(3.0) and statement["delta"] == DELTA
    assert statement["mechanism"] == "gaussian"
    assert sum(release["mu2"] for release in statement["releases"]) == pytest.approx(plan.cap_mu2)


def test_the_statement_of_noise_in_shares_says_what_holds_if_some_add_none() -> None:
    """None, one, a tenth and a third of a hundred devices, for a smallest cohort of 20; a third is all of it."""
    plan = plan_of(3.0, trust=Trust.DISTRIBUTED)
    config = replace(config_of(Trust.DISTRIBUTED), minimum_cohort=20)
    statement = json.loads(json.dumps(privacy_statement(config, plan), allow_nan=False))
    assert (statement["minimum_cohort"], statement["most_participants"]) == (20, 100)
    stated = {row["participants"]: row["epsilon"] for row in statement["if_silent"]}
    expected = {0: 3.0, 1: plan.epsilon_if_silent(1, 20), 10: plan.epsilon_if_silent(10, 20), 34: None}
    assert stated == {lying: pytest.approx(epsilon) for lying, epsilon in expected.items()}
    assert "if_silent" not in privacy_statement(config_of(Trust.CENTRAL), plan_of(3.0))


def config_of(trust: Trust) -> FederationConfig:
    """The declared run configuration with this trust model."""
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    words = {**project["tool"]["flwr"]["app"]["config"], "trust": str(trust), "shoppers": 100, "merchants": 5}
    return FederationConfig.from_run_config(words)


@given(
    budgets_to_share, st.sampled_from([Trust.CENTRAL, Trust.LOCAL]), st.integers(1, 20), st.floats(0.0, 0.5)
)
def test_a_person_at_several_merchants_pays_between_once_and_group_privacy(
    epsilon: float, trust: Trust, merchants: int, part: float
) -> None:
    """At one merchant it is the plan's epsilon; at k it grows, up to the bound k mu of group privacy."""
    spent = part * mu_of(epsilon, DELTA) ** 2
    plan = plan_of(epsilon, trust=trust, spent=spent)
    assert plan.epsilon_at_merchants(1) == pytest.approx(plan.total_epsilon(), rel=1e-9)
    here, next_one = plan.epsilon_at_merchants(merchants), plan.epsilon_at_merchants(merchants + 1)
    assert here < next_one
    assert here <= epsilon_of(merchants * math.sqrt(plan.mu2 + spent), DELTA) * (1 + 1e-9)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("trust", "factor"), [(Trust.DISTRIBUTED, 9), (Trust.CENTRAL, 9), (Trust.LOCAL, 3)])
def test_releases_of_one_person_add_up_only_where_one_noise_covers_them(
    trust: Trust, factor: int, shared: bool
) -> None:
    """By hand for k = 3: linkage once, counts and Gram three times, the others nine times or, noised each, three.

    So does the Gram in a subspace where merchants share its coordinates, and three times where each has its own.
    """
    plan = plan_of(2.0, trust=trust)
    price = {stage: plan.of(stage).mu2 for stage in Stage}
    apart = price[Stage.COUNTS] + price[Stage.GRAM]
    inside = (factor if shared else 3) * price[Stage.SUBSPACE]
    common = price[Stage.GRADIENT] + price[Stage.BASKETS] + price[Stage.FUSION]
    total = price[Stage.LINKAGE] + 3 * apart + inside + factor * common
    expected = epsilon_of(math.sqrt(total), gaussian_delta(trust, DELTA))
    assert plan.epsilon_at_merchants(3, subspace_shared=shared) == pytest.approx(expected, rel=1e-9)


@given(budgets_to_share, st.integers(2, 20))
def test_a_subspace_of_its_own_per_merchant_is_never_the_dearer(epsilon: float, merchants: int) -> None:
    """Under central trust it is cheaper; where every merchant adds its noise, and at one merchant, it is the same."""
    central, local = (plan_of(epsilon, trust=trust) for trust in (Trust.CENTRAL, Trust.LOCAL))
    own = central.epsilon_at_merchants(merchants, subspace_shared=False)
    assert own < central.epsilon_at_merchants(merchants)
    for plan, number in ((local, merchants), (central, 1)):
        assert plan.epsilon_at_merchants(number, subspace_shared=False) == plan.epsilon_at_merchants(number)


def test_noise_in_shares_takes_its_slack_off_delta_first() -> None:
    """A plan of trust `distributed` is that of `central` at a delta smaller by the slack; no delta, no plan."""
    assert gaussian_delta(Trust.DISTRIBUTED, DELTA) == DELTA - DELTA_SLACK
    assert gaussian_delta(Trust.CENTRAL, DELTA) == DELTA
    near = 2 * DELTA_SLACK
    distributed, central = (
        make_plan(trust=trust, epsilon=3.0, delta=near, counts=ALL)
        for trust in (Trust.DISTRIBUTED, Trust.CENTRAL)
    )
    assert distributed.mu2 == pytest.approx(mu_of(3.0, near - DELTA_SLACK) ** 2)
    assert distributed.mu2 < central.mu2
    with pytest.raises(BudgetError, match="state a larger delta"):
        make_plan(trust=Trust.DISTRIBUTED, epsilon=3.0, delta=DELTA_SLACK, counts=ALL)


@given(budgets_to_share, st.integers(2, 1000), st.floats(0.0, 0.5))
def test_whoever_adds_no_noise_makes_epsilon_larger(epsilon: float, cohort: int, part: float) -> None:
    """None silent: the plan's epsilon; each one more raises it; where all of a cohort are, nothing holds."""
    spent = part * mu_of(epsilon, DELTA) ** 2
    plan = plan_of(epsilon, trust=Trust.DISTRIBUTED, spent=spent)
    assert plan.epsilon_if_silent(0, cohort) == pytest.approx(plan.total_epsilon(), rel=1e-9)
    found = [plan.epsilon_if_silent(silent, cohort) for silent in range(0, cohort, max(1, cohort // 7))]
    assert found == sorted(set(found))
    assert plan.epsilon_if_silent(cohort, cohort) == plan.epsilon_if_silent(cohort + 3, cohort) == math.inf


def test_half_of_the_shares_cost_twice_the_price() -> None:
    """By hand: two of four silent double every mu^2 of the run but the linkage's; what was spent before stays."""
    plan = plan_of(3.0, trust=Trust.DISTRIBUTED, spent=0.1)
    linkage = plan.of(Stage.LINKAGE).mu2
    expected = epsilon_of(math.sqrt(0.1 + linkage + 2 * (plan.mu2 - linkage)), DELTA - DELTA_SLACK)
    assert plan.epsilon_if_silent(2, 4) == pytest.approx(expected, rel=1e-9)


def test_what_only_single_surfaces_need_gives_its_share_back_where_it_is_left_out() -> None:
    """Without baskets and fusion the others split the budget in the proportions that home was tuned with."""
    without: Mapping[Stage, int] = {
        stage: count for stage, count in ALL.items() if stage not in (Stage.BASKETS, Stage.FUSION)
    }
    plan = plan_of(counts=without)
    tuned = {"linkage": 0.01, "counts": 0.04, "gram": 0.36, "subspace": 0.46, "gradient": 0.13}
    shares = {str(release.stage): release.mu2 / plan.mu2 for release in plan.releases}
    assert shares == pytest.approx(tuned, rel=1e-9)
    both = plan_of()
    assert both.of(Stage.GRAM).mu2 == pytest.approx(0.91 * plan.of(Stage.GRAM).mu2, rel=1e-9)


def test_baskets_are_a_statistic_where_there_are_some() -> None:
    """They come after the Gram, whose item vectors they are read in, under every trust model."""
    for trust in Trust:
        counts = statistics_of(trust, baskets=True)
        assert counts[Stage.BASKETS] == 1 and list(counts)[-1] is Stage.BASKETS
        assert statistics_of(trust)[Stage.BASKETS] == 0


def test_without_noise_one_gram_says_it_all() -> None:
    """Two rounds of statistics under trust `none`, three under the others."""
    assert sum(statistics_of(Trust.NONE).values()) == 2
    for trust in (Trust.DISTRIBUTED, Trust.CENTRAL, Trust.LOCAL):
        assert [stage for stage, count in statistics_of(trust).items() if count == 1] == [
            Stage.COUNTS,
            Stage.GRAM,
            Stage.SUBSPACE,
        ]
