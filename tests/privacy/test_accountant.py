"""The accountant: inverse to itself, equal to hand-made values and to two accountants of others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.integrate import quad
from scipy.stats import norm

from privacy.accountant import BudgetError, default_delta, delta_of, epsilon_of, mu_of
from privacy.errors import PrivacyError
from privacy.plan import Plan, Stage, Trust, make_plan

STAGES: Mapping[Stage, int] = {**dict.fromkeys(Stage, 1), Stage.GRADIENT: 5}

deltas = st.floats(1e-12, 0.1)


def plan_for(epsilon: float, delta: float = 1e-5) -> Plan:
    """A plan of eight releases in four stages."""
    return make_plan(trust=Trust.CENTRAL, epsilon=epsilon, delta=delta, counts=STAGES)


@given(st.floats(1e-3, 200.0), deltas)
def test_epsilon_and_mu_are_inverse(epsilon: float, delta: float) -> None:
    """From a budget to mu and back gives the budget, to eight digits, and never more than it."""
    back = epsilon_of(mu_of(epsilon, delta), delta)
    assert back == pytest.approx(epsilon, rel=1e-8)
    assert back <= epsilon


@given(st.floats(1e-3, 50.0), deltas)
def test_epsilon_of_a_mu_leaves_exactly_delta(mu: float, delta: float) -> None:
    """At the returned epsilon the curve of Balle & Wang is at delta; a thousandth less is not enough."""
    epsilon = epsilon_of(mu, delta)
    if epsilon == 0.0:
        assert delta_of(mu, 0.0) <= delta
        return
    assert delta_of(mu, epsilon) == pytest.approx(delta, rel=1e-6)
    assert delta_of(mu, 0.999 * epsilon) > delta


@given(st.floats(0.01, 20.0), st.floats(0.01, 20.0), deltas)
def test_more_noise_never_costs_more(first: float, second: float, delta: float) -> None:
    """Epsilon grows with mu and mu with epsilon."""
    low, high = sorted((first, second))
    assert epsilon_of(low, delta) <= epsilon_of(high, delta) + 1e-9
    assert mu_of(low, delta) <= mu_of(high, delta) + 1e-9
    assert mu_of(low, delta) < mu_of(1.01 * high, delta)


@pytest.mark.parametrize(
    ("mu", "epsilon", "delta"),
    [
        # epsilon 0: the total variation 2 Phi(mu / 2) - 1 of two normals that are mu apart; Phi(1/2) = .6914624613
        (1.0, 0.0, 0.3829249225),
        # epsilon mu^2 / 2: Phi(0) - e^(1/2) Phi(-1) = .5 - 1.6487212707 x .1586552539
        (1.0, 0.5, 0.2384217081),
        # the same at mu 2: .5 - e^2 Phi(-2) = .5 - 7.3890560989 x .0227501319
        (2.0, 2.0, 0.3318979986),
        # sigma 3.730631634816 is the analytic calibration to (1, 1e-5) that Balle & Wang publish with their paper
        (1 / 3.730631634816, 1.0, 1e-5),
    ],
)
def test_golden_values(mu: float, epsilon: float, delta: float) -> None:
    """Values from a table of the normal distribution, and the published calibration."""
    assert delta_of(mu, epsilon) == pytest.approx(delta, rel=1e-8)
    if epsilon:
        assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-7)
        assert mu_of(epsilon, delta) == pytest.approx(mu, rel=1e-7)


@pytest.mark.parametrize("mu", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 6.0])
def test_delta_is_the_hockey_stick_divergence(mu: float, epsilon: float) -> None:
    """Equal to the integral of (p - e^epsilon q)+ for two unit normals that are mu apart, by quadrature."""
    start = epsilon / mu + mu / 2  # where p = e^epsilon q
    gap = quad(lambda x: norm.pdf(x - mu) - math.exp(epsilon) * norm.pdf(x), start, start + 12, epsabs=1e-15)[
        0
    ]
    assert delta_of(mu, epsilon) == pytest.approx(gap, rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 8.0])
def test_a_whole_plan_costs_what_dp_accounting_says(epsilon: float) -> None:
    """Privacy loss distributions of all releases, composed, agree within 0.1 %: the alarm is at 2 %."""
    plan = plan_for(epsilon)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for release in plan.releases:
        accountant.compose(dp_event.GaussianDpEvent(release.noise_multiplier), release.count)
    theirs = accountant.get_epsilon(plan.delta)
    assert plan.total_epsilon() == pytest.approx(theirs, rel=1e-3)
    assert plan.total_epsilon() == pytest.approx(epsilon, rel=1e-8)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_opacus_accountants_bound_and_meet_the_plan(epsilon: float) -> None:
    """Opacus' Renyi accountant at sampling rate 1 is an upper bound, its numerical one agrees within 2 %."""
    plan = plan_for(epsilon)
    renyi, numerical = RDPAccountant(), PRVAccountant()
    for release in plan.releases:
        for _ in range(release.count):
            renyi.step(noise_multiplier=release.noise_multiplier, sample_rate=1.0)
            numerical.step(noise_multiplier=release.noise_multiplier, sample_rate=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn about the edges of their grids
        upper, close = renyi.get_epsilon(plan.delta), numerical.get_epsilon(plan.delta)
    assert plan.total_epsilon() <= upper <= 1.15 * plan.total_epsilon()
    assert close == pytest.approx(plan.total_epsilon(), rel=0.02)


def test_the_comparison_would_see_a_release_that_is_forgotten() -> None:
    """Two per cent is sharp: one gradient of five left out of the account moves epsilon by more."""
    plan = plan_for(8.0)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for release in plan.releases:
        forgotten = release.stage is Stage.GRADIENT
        accountant.compose(dp_event.GaussianDpEvent(release.noise_multiplier), release.count - 2 * forgotten)
    assert accountant.get_epsilon(plan.delta) < 0.98 * plan.total_epsilon()


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-6, 2.0, math.nan, math.inf])
def test_a_delta_outside_zero_and_one_is_refused(delta: float) -> None:
    """Both directions name the value and the bound."""
    for ask in (epsilon_of, mu_of):
        with pytest.raises(BudgetError, match="must lie between 0 and 1"):
            ask(1.0, delta)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_an_epsilon_that_is_no_budget_is_refused(epsilon: float) -> None:
    """Zero, negative, infinite and NaN budgets, with an example of a right one."""
    with pytest.raises(BudgetError, match="--epsilon 8"):
        mu_of(epsilon, 1e-6)


@pytest.mark.parametrize("mu", [-0.1, math.nan, math.inf])
def test_a_mu_that_is_no_price_is_refused(mu: float) -> None:
    """Negative, infinite and NaN prices are errors of this room and plain value errors."""
    with pytest.raises(BudgetError, match="finite and at least 0") as refusal:
        epsilon_of(mu, 1e-6)
    assert isinstance(refusal.value, PrivacyError) and isinstance(refusal.value, ValueError)


@settings(max_examples=300)
@given(st.floats(-300, 300), st.floats(-300, -0.001))
def test_no_price_overflows(log_mu: float, log_delta: float) -> None:
    """Any mu from 1e-300 to 1e300 has an epsilon: finite, or infinite where a double cannot hold it."""
    mu, delta = 10.0**log_mu, 10.0**log_delta
    epsilon = epsilon_of(mu, delta)
    assert epsilon >= 0 and not math.isnan(epsilon)
    assert math.isfinite(epsilon) == (mu < 1.8e154)
    assert 0 <= delta_of(mu, 1.0) <= 1


@settings(max_examples=200)
@given(st.floats(-9, 150), st.floats(-100, -0.001))
def test_no_budget_overflows(log_epsilon: float, log_delta: float) -> None:
    """Budgets from 1e-9 to 1e150 at any delta have a mu that gives them back."""
    epsilon, delta = 10.0**log_epsilon, 10.0**log_delta
    mu = mu_of(epsilon, delta)
    assert 0 < mu < math.inf
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-4, abs=1e-10 * (1 + mu * mu))


def test_large_budgets_approach_half_of_mu_squared() -> None:
    """epsilon = mu^2 / 2 + t mu with Phi(-t) near delta: at mu 1e6, t is 4.7534 at delta 1e-6."""
    mu = 1e6
    t = epsilon_of(mu, 1e-6) / mu - mu / 2
    assert t == pytest.approx(norm.isf(1e-6), rel=1e-3)


def test_a_delta_near_one_has_an_epsilon_too() -> None:
    """Far out on the other tail: epsilon = mu^2 / 2 - t mu where only 1e-12 of the mass lies beyond t."""
    mu = 1000.0
    t = mu / 2 - epsilon_of(mu, 1 - 1e-12) / mu
    assert t == pytest.approx(norm.isf(1e-12), rel=1e-3)


def test_no_release_costs_nothing() -> None:
    """mu 0 is perfect privacy; a mu whose total variation is below delta has epsilon 0."""
    assert delta_of(0.0, 1.0) == 0.0
    assert epsilon_of(0.0, 1e-6) == 0.0
    assert epsilon_of(1e-7, 1e-6) == 0.0
    assert epsilon_of(1e-5, 1e-6) > 0.0


def test_the_default_delta_is_below_one_over_the_shoppers() -> None:
    """1 / N^1.1, and no N below 2."""
    assert default_delta(10_000) == pytest.approx(10**-4.4)
    assert all(default_delta(shoppers) < 1 / shoppers for shoppers in (2, 100, 10**9))
    for shoppers in (1, 0, -5):
        with pytest.raises(BudgetError, match="pass --delta"):
            default_delta(shoppers)


def test_prices_compose_by_adding_mu_squared() -> None:
    """Three releases together are one of sqrt(sum of mu^2), as dp-accounting composes them too."""
    multipliers = [2.0, 3.5, 0.9]
    mu = math.sqrt(sum(1 / z**2 for z in multipliers))
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for z in multipliers:
        accountant.compose(dp_event.GaussianDpEvent(z))
    for delta in np.logspace(-9, -2, 4):
        assert epsilon_of(mu, float(delta)) == pytest.approx(accountant.get_epsilon(float(delta)), rel=1e-3)
