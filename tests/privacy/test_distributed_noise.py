"""Shares of noise: together what `central` would add, on a grid on which sums are exact, at the stated price."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from privacy.accountant import delta_of
from privacy.discrete_gaussian import BASE, coefficients, seeded_words
from privacy.distributed_noise import DELTA_SLACK, FINENESS, OF_ROUNDING, NoiseShare
from privacy.errors import PrivacyError
from privacy.mechanism import ContributionError

SURELY = 1e-6

shares = st.builds(
    NoiseShare,
    clipping_norm=st.floats(0.01, 100.0),
    noise_multiplier=st.floats(0.05, 100.0),
    minimum_cohort=st.integers(1, 10_000),
    entries=st.integers(1, 2_000_000),
)


def share(cohort: int = 8, entries: int = 200_000, multiplier: float = 1.5) -> NoiseShare:
    """A participant's share where `central` would add noise of deviation 3."""
    return NoiseShare(clipping_norm=2.0, noise_multiplier=multiplier, minimum_cohort=cohort, entries=entries)


def is_normal_with(std: float, draws: NDArray[np.float64]) -> bool:
    """Whether a chi-square test on the squares and one on the shape accept independent N(0, std^2)."""
    squares = float(np.square(draws / std).sum())
    tail = min(stats.chi2.cdf(squares, draws.size), stats.chi2.sf(squares, draws.size))
    return 2 * float(tail) > SURELY and float(stats.kstest(draws / std, "norm").pvalue) > SURELY


@pytest.mark.parametrize("cohort", [1, 8])
def test_the_shares_of_a_smallest_cohort_are_the_noise_of_trust_central(cohort: int) -> None:
    """Each participant alone, added up: z C on each entry, and nothing 2 % off on either side."""
    one, total = share(cohort), np.linspace(-50, 50, 200_000)
    parts = [one.noised(total / cohort, 1, seeded_words(seed)) for seed in range(cohort)]
    noise = np.sum(parts, axis=0) - total
    assert is_normal_with(3.0, noise)
    assert not is_normal_with(3.06, noise)
    assert not is_normal_with(2.94, noise)


def test_the_noise_of_many_participants_in_one_draw_is_that_of_their_shares() -> None:
    """512 devices behind one message; one draw of their variance, neither 2 % more nor less."""
    noise = share(cohort=400).noised(np.zeros(200_000), 512)
    std = 3.0 * math.sqrt(512 / 400)
    assert is_normal_with(std, noise)
    assert not is_normal_with(1.02 * std, noise)
    assert not is_normal_with(0.98 * std, noise)


def test_a_cohort_short_of_one_share_has_measurably_less_noise() -> None:
    """Seven of eight shares fail the test that eight pass: the noise is no stronger than stated."""
    one = share(8)
    noise = np.sum([one.noised(np.zeros(200_000), 1, seeded_words(seed)) for seed in range(7)], axis=0)
    assert not is_normal_with(3.0, noise)
    assert is_normal_with(3.0 * math.sqrt(7 / 8), noise)


@given(shares)
def test_a_share_is_never_weaker_than_stated(one: NoiseShare) -> None:
    """In units of the grid its variance covers sensitivity, cohort and rounding, and is at most 1e-4 above that."""
    wanted = (one.noise_multiplier * one.sensitivity / one.step) ** 2 / one.minimum_cohort + OF_ROUNDING
    drawn = BASE**2 * sum(factor * factor for factor in coefficients(one.multiple))
    assert wanted * (1 - 1e-12) <= drawn <= wanted * (1 + 2e-4)
    of_cohort = one.std * math.sqrt(one.minimum_cohort)
    assert of_cohort >= one.noise_multiplier * one.clipping_norm * (1 - 1e-12)
    assert math.frexp(one.step)[0] == 0.5  # a power of two
    bare = one.noise_multiplier * one.clipping_norm / math.sqrt(one.minimum_cohort)
    assert 2**FINENESS <= bare / one.step < 2 ** (FINENESS + 1)


@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_rounding_adds_at_most_a_step_per_entry_to_what_one_shopper_changes(
    entries: int, seed: int, part: float
) -> None:
    """With and without a shopper's share of norm up to C, the rounded sums differ by at most the sensitivity."""
    random = np.random.default_rng(seed)
    one = share(entries=entries, multiplier=2.0**FINENESS)  # so coarse that rounding shows
    others, own = random.normal(size=entries), random.normal(size=entries)
    own *= part * one.clipping_norm / max(float(np.linalg.norm(own)), 1e-12)
    moved = (one.rounded(others + own) - one.rounded(others)) * one.step
    assert np.linalg.norm(moved) <= one.sensitivity * (1 + 1e-12)
    assert one.sensitivity > 1.1 * one.clipping_norm


def test_contributions_lie_on_the_grid_and_add_up_exactly_in_any_order() -> None:
    """Whole steps, as fractions, forwards and backwards; as integers modulo 2^64 they add up to the same."""
    one, random = share(5, entries=40), np.random.default_rng(2)
    parts = [one.noised(random.normal(size=40), 1) for _ in range(7)]
    exact = [sum(Fraction(float(part[place])) for part in parts) for place in range(40)]
    assert all(value % Fraction(one.step) == 0 for value in exact)
    for order in (parts, parts[::-1]):
        total = np.zeros(40)
        for part in order:
            total += part
        assert [Fraction(value) for value in total.tolist()] == exact
    steps = np.sum([(part / one.step).astype(np.int64) for part in parts], axis=0)
    assert [Fraction(int(step)) * Fraction(one.step) for step in steps] == exact


def test_the_shape_stays_and_a_seed_repeats_the_noise() -> None:
    """A matrix of a gradient is noised entry by entry; the system's entropy never repeats."""
    one, total = share(entries=6), np.arange(6.0).reshape(2, 3)
    first, again = (one.noised(total, 3, seeded_words(4)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, 3)
    assert (one.noised(total, 3) != one.noised(total, 3)).any()
    np.testing.assert_array_equal(total, np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_sum_that_no_bounded_shares_add_up_to_does_not_leave(value: float) -> None:
    """Neither NaN nor what a double cannot hold in whole steps."""
    with pytest.raises(ContributionError, match="no sum of bounded shares reaches"):
        share().noised(np.array([0.0, value]), 1)


def test_noise_of_nobody_is_refused() -> None:
    """Zero participants would send the sum as it is."""
    with pytest.raises(ContributionError, match="at least 1"):
        share().noised(np.zeros(3), 0)


@pytest.mark.parametrize("name", ["clipping_norm", "noise_multiplier", "minimum_cohort"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_share_that_protects_nobody_is_refused(name: str, value: float) -> None:
    """Each parameter is named."""
    words = {"clipping_norm": 1.0, "noise_multiplier": 1.0, "minimum_cohort": 5, "entries": 3, name: value}
    with pytest.raises(PrivacyError, match=name.replace("_", " ")):
        NoiseShare(**words)  # type: ignore[arg-type]


@pytest.mark.parametrize("std", [4.0, 8.0, 16.0, 32.0])
def test_a_discrete_gaussian_is_a_rounded_one_up_to_the_fourth_power_of_its_deviation(std: float) -> None:
    """Chances differ by a factor within (4 + z^4) / (2000 std^4), the bound that the slack rests on (ADR 27)."""
    values = np.arange(-int(6 * std), int(6 * std) + 1, dtype=np.float64)
    weights = np.exp(-(values**2) / (2 * std**2))
    discrete = weights / weights.sum()
    narrower = math.sqrt(std**2 - OF_ROUNDING)
    rounded = stats.norm.cdf((-np.abs(values) + 0.5) / narrower) - stats.norm.cdf(
        (-np.abs(values) - 0.5) / narrower
    )
    bound = (4 + (values / std) ** 4) / (2000 * std**4)
    assert (np.abs(np.log(discrete / rounded)) <= bound + 1e-8).all()
    wrong = np.log(discrete / np.diff(stats.norm.cdf((np.append(values, values[-1] + 1) - 0.5) / std)))
    assert (np.abs(wrong) > bound + 1e-8).any()


def test_the_slack_covers_what_it_says_it_covers() -> None:
    """2^30 entries at the bound above, 20 deviations out, both ways; 2^39 draws from the table at epsilon 60."""
    share_in_steps = 2.0**FINENESS
    by_shape = 2 * 2**30 * (4 + 20**4) / (2000 * share_in_steps**4)
    by_table = 2.0**39 * math.exp(60) * 2.0**-177
    assert by_shape + by_table < DELTA_SLACK


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_integer_noise_of_one_entry_keeps_the_delta_of_the_gaussian_mechanism(epsilon: float) -> None:
    """Delta of a discrete Gaussian, summed over all integers, is that of mu = sensitivity / deviation."""
    std, moved = 256.0, 200
    values = np.arange(-5000, 5001, dtype=np.float64)
    weights = np.exp(-(values**2) / (2 * std**2))
    here, there = weights / weights.sum(), np.exp(-((values - moved) ** 2) / (2 * std**2)) / weights.sum()
    delta = float(np.maximum(here - math.exp(epsilon) * there, 0.0).sum())
    assert delta == pytest.approx(delta_of(moved / std, epsilon), rel=1e-4)
    assert delta > 1.05 * delta_of(moved / (1.05 * std), epsilon)
