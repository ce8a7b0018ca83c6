"""Contributions on a grid: any order of any grouping of the same terms gives the same bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.fixed_point import GRID, on_grid

LARGEST = 2.0**20

values = st.lists(st.floats(-1000, 1000), min_size=1, max_size=200)


@given(values)
def test_a_sum_on_the_grid_is_exact_in_any_order(terms: list[float]) -> None:
    """Equal to the sum of fractions, forwards, shuffled, and in two halves."""
    gridded = on_grid(np.array(terms))
    exact = sum(Fraction(value) for value in gridded.tolist())
    shuffled = np.random.default_rng(len(terms)).permutation(gridded)
    halves = float(gridded[::2].sum()) + float(gridded[1::2].sum())
    one_by_one = 0.0
    for value in shuffled.tolist():
        one_by_one += value
    assert Fraction(float(gridded.sum())) == Fraction(one_by_one) == Fraction(halves) == exact


def test_off_the_grid_the_order_does_show() -> None:
    """Without rounding the same terms in another order differ, so the property above is not empty."""
    terms = np.random.default_rng(1).normal(size=10_000)
    forwards, backwards = np.cumsum(terms)[-1], np.cumsum(terms[::-1])[-1]
    assert forwards != backwards
    gridded = on_grid(terms)
    assert np.cumsum(gridded)[-1] == np.cumsum(gridded[::-1])[-1]


@given(st.floats(-LARGEST, LARGEST))
def test_rounding_moves_a_value_by_at_most_half_a_step(value: float) -> None:
    """Every result is a whole number of steps, at most 2^-33 away, and stays where it is the second time."""
    (gridded,) = on_grid(np.array([value])).tolist()
    assert Fraction(gridded) % Fraction(GRID) == 0
    assert abs(Fraction(gridded) - Fraction(value)) <= Fraction(GRID) / 2
    assert on_grid(np.array([gridded])).tolist() == [gridded]


def test_sums_stay_exact_up_to_the_stated_bound() -> None:
    """Just below 2^20 one more step still counts; a double loses it from 2^21 on."""
    assert (LARGEST - GRID) + GRID == LARGEST and LARGEST - GRID != LARGEST
    assert LARGEST + GRID != LARGEST
    assert 2 * LARGEST + GRID == 2 * LARGEST


@pytest.mark.parametrize("shape", [(0,), (3, 4), (2, 1, 5)])
def test_the_shape_stays(shape: tuple[int, ...]) -> None:
    """Matrices of contributions are rounded entry by entry."""
    assert on_grid(np.ones(shape)).shape == shape


def test_what_is_not_finite_stays_so_and_is_refused_later() -> None:
    """A NaN must not become a number on the way to the coordinator, who refuses it."""
    gridded = on_grid(np.array([np.nan, np.inf, -np.inf]))
    assert not np.isfinite(gridded).any()
