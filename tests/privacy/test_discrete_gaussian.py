"""Integer noise: its table is exact, wide draws leave no integer out, and a nearby wrong distribution is rejected."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from privacy.discrete_gaussian import (
    BASE,
    BITS,
    REACH,
    Words,
    base_table,
    coefficients,
    draw,
    seeded_words,
    system_words,
)
from privacy.errors import PrivacyError

SURELY = 1e-6  # fixed level: a right distribution falls below it once in a million runs
SHARE = 2**19 + 77  # variance over that of the base, as a participant's share of noise has
SOURCES: list[Words] = [system_words, seeded_words(3)]

Integers = NDArray[np.int64]


def fits(draws: Integers, std: float, shift: float = 0.0) -> bool:
    """Whether a chi-square test over 64 bins of equal chance accepts a Gaussian of this deviation on the integers."""
    edges = shift + std * stats.norm.ppf(np.arange(1, 64) / 64)
    expected = np.diff(stats.norm.cdf((np.ceil(edges) - 0.5 - shift) / std), prepend=0.0, append=1.0)
    found = np.bincount(np.searchsorted(np.ceil(edges), draws, side="right"), minlength=64)
    return float(stats.chisquare(found, expected * draws.size).pvalue) > SURELY


@pytest.mark.parametrize("words", SOURCES)
def test_a_draw_of_the_base_is_a_discrete_gaussian(words: Words) -> None:
    """Chi-square accepts 400,000 draws, and rejects a deviation 2 % off or a mean 2 % of a deviation off."""
    draws = draw(400_000, 1, words)
    assert draws.dtype == np.int64
    assert fits(draws, BASE)
    assert not fits(draws, 1.02 * BASE)
    assert not fits(draws, 0.98 * BASE)
    assert not fits(draws, BASE, shift=0.02 * BASE)


@pytest.mark.parametrize("words", SOURCES)
@pytest.mark.parametrize("multiple", [SHARE, 512 * SHARE])
def test_wide_noise_has_the_stated_deviation(words: Words, multiple: int) -> None:
    """One share, and the shares of 512 participants in one draw; 2 % more or less is rejected."""
    draws, std = draw(400_000, multiple, words), BASE * math.sqrt(multiple)
    assert fits(draws, std)
    assert not fits(draws, 1.02 * std)
    assert not fits(draws, 0.98 * std)
    assert abs(float(np.mean((draws / std) ** 2)) - 1) < 6 * math.sqrt(2 / draws.size)


@pytest.mark.parametrize("modulus", [2, 181, 256, 724])
def test_no_integer_is_left_out(modulus: int) -> None:
    """The remainders of a wide draw are uniform; those of a multiple alone are not."""
    draws = draw(400_000, SHARE, seeded_words(modulus))
    assert stats.chisquare(np.bincount(draws % modulus, minlength=modulus)).pvalue > SURELY
    bare = 724 * draw(400_000, 1, seeded_words(modulus))
    assert stats.chisquare(np.bincount(bare % modulus, minlength=modulus)).pvalue < SURELY


def test_draws_are_unrelated_to_their_neighbours() -> None:
    """No correlation at lags 1, 2 and 64, within a chunk and over its end."""
    draws = draw(300_000, SHARE) / (BASE * math.sqrt(SHARE))
    for lag in (1, 2, 64):
        assert abs(float(np.mean(draws[lag:] * draws[:-lag]))) < 6 / math.sqrt(draws.size)


def test_the_systems_noise_differs_each_time_and_a_seed_repeats_it() -> None:
    """Nobody can repeat what production draws."""
    assert not (draw(1000, SHARE) == draw(1000, SHARE)).all()
    np.testing.assert_array_equal(draw(1000, SHARE, seeded_words(5)), draw(1000, SHARE, seeded_words(5)))
    assert (draw(1000, SHARE, seeded_words(5)) != draw(1000, SHARE, seeded_words(6))).any()
    assert draw(0, SHARE).shape == (0,)


def test_the_table_is_the_distribution_function_to_its_last_bits() -> None:
    """Against a sum of decimals of 80 digits at places in the middle, in the tails and at either end."""
    table = base_table()
    assert table.whole == sorted(table.whole) and len(table.whole) == 2 * REACH * BASE
    with localcontext() as context:
        context.prec = 80
        weights = [(Decimal(-(x * x)) / (2 * BASE * BASE)).exp() for x in range(REACH * BASE + 1)]
        whole = 2 * sum(weights) - weights[0]
        for value in (-REACH * BASE, -9 * BASE, -3 * BASE, -1, 0, 1, 2 * BASE, REACH * BASE - 1):
            below = sum(weights[-value:]) if value <= 0 else whole - sum(weights[value + 1 :])
            exact = below / whole * 2**BITS
            assert abs(table.whole[value + REACH * BASE] - exact) < 2


def test_a_word_that_is_an_entrys_is_decided_by_further_words() -> None:
    """One draw in 2^48: below the entry's further bits it is the lower value, from there on the next one."""
    table = base_table()
    for index in (7 * BASE, REACH * BASE - 1, REACH * BASE + 700, 27 * BASE):
        entry = table.whole[index]
        leading, rest = entry >> 128, entry & (2**128 - 1)
        for bits, value in ((rest, index + 1), (rest - 1, index)):
            drawn = table.draw(1, _words_of([leading, bits >> 64, bits & (2**64 - 1)]))
            assert drawn.tolist() == [value - REACH * BASE]


def _words_of(words: list[int]) -> Words:
    """A source of these words and no more."""
    source = iter(words)
    return lambda count: np.array([next(source) for _ in range(count)], dtype=np.uint64)


@pytest.mark.parametrize(("word", "sign"), [(0, -1), (2**64 - 1, 1)])
def test_the_first_and_the_last_of_all_words_are_far_out_and_no_further_than_the_table(
    word: int, sign: int
) -> None:
    """Neither an index out of range nor a value of nobody's."""
    (drawn,) = base_table().draw(1, lambda count: np.full(count, word, dtype=np.uint64)).tolist()
    assert 9 * BASE < sign * drawn <= REACH * BASE


@given(st.integers(1, 2**50))
def test_coefficients_add_up_to_the_variance_and_leave_no_gap(multiple: int) -> None:
    """The squares sum to it or a trifle more; the first is 1, each is at most half the deviation before it."""
    found = coefficients(multiple)
    total = sum(one * one for one in found)
    assert multiple <= total <= multiple * (1 + 1 / (8 * math.sqrt(multiple)))
    assert found[0] == 1
    before = 1
    for one in found[1:]:
        assert 2 * one <= BASE * math.sqrt(before)
        before += one * one


def test_no_variance_is_refused() -> None:
    """Noise of nothing is no noise."""
    with pytest.raises(PrivacyError, match="at least 1"):
        coefficients(0)


def test_a_sum_of_two_draws_is_a_discrete_gaussian_where_its_coefficient_reaches_no_further() -> None:
    """Summed over all pairs, its chances are those of one discrete Gaussian to 1e-12; with a gap they are far off."""
    assert _worst_ratio(724) == pytest.approx(1.0, abs=1e-12)
    assert _worst_ratio(4 * BASE) > 1.01


def _worst_ratio(coefficient: int) -> float:
    """Return the largest chance of x = a y + z over that of the Gaussian it should be, up to their constant."""
    first = np.arange(-9 * BASE, 9 * BASE + 1, dtype=np.float64)
    variance = BASE**2 * (coefficient**2 + 1)
    places = np.arange(0, coefficient, max(1, coefficient // 97)) + 1000
    ratios = []
    for x in places:
        exponent = -(first**2 + (x - coefficient * first) ** 2) / (2 * BASE**2) + x**2 / (2 * variance)
        ratios.append(float(np.exp(exponent).sum()))
    return max(ratios) / float(np.mean(ratios))
