"""The axes of the head: damped by popularity, with the direction of the popular items set apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import FeatureError
from model.head import DAMPING, Head

popularities = st.lists(st.floats(-3.0, 6.0).map(lambda power: 10.0**power), min_size=1, max_size=40).map(
    np.array
)


def test_the_axes_of_a_known_head() -> None:
    """E is popularity^-0.2 and q is along popularity^0.8, of length 1."""
    head = Head(np.array([4, 9]), np.array([32.0, 1.0]))
    np.testing.assert_allclose(head.scale, [0.5, 1.0])
    np.testing.assert_allclose(head.popular, np.array([16.0, 1.0]) / np.sqrt(257.0))
    assert len(head) == 2 and DAMPING == 0.2


@given(popularities, st.sampled_from([1e-300, 1e-200, 1e-9, 1.0, 1e9, 1e300]))
def test_the_popular_direction_has_length_one_in_any_unit(popularity: np.ndarray, unit: float) -> None:
    """Lengths of histories are told by it, so that a rounding error here would be one of the bound on a share."""
    head = Head(np.arange(len(popularity)), popularity * unit)
    np.testing.assert_allclose(np.linalg.norm(head.popular), 1.0, rtol=1e-14)
    np.testing.assert_allclose(head.popular, Head(head.items, popularity).popular, rtol=1e-12)


def test_the_popular_direction_is_where_histories_drawn_by_popularity_lie() -> None:
    """The mean of E x over many shoppers who like items in proportion to their popularity is along q."""
    random = np.random.default_rng(3)
    head = Head(np.arange(30), random.gamma(1.0, size=30) + 0.05)
    likes = random.random((20_000, 30)) < 0.5 * head.popularity / head.popularity.max()
    mean = (likes * head.scale).mean(axis=0)
    assert float(mean @ head.popular) / np.linalg.norm(mean) > 0.999
    assert float(mean @ np.full(30, 30**-0.5)) / np.linalg.norm(mean) < 0.95


def test_a_head_is_cut_to_positions_in_their_order() -> None:
    """A merchant's part keeps items and popularity together; q is then that of its own items alone."""
    head = Head(np.array([2, 5, 7]), np.array([3.0, 1.0, 4.0]))
    part = head.at(np.array([2, 0]))
    np.testing.assert_array_equal(part.items, [7, 2])
    np.testing.assert_array_equal(part.popularity, [4.0, 3.0])
    np.testing.assert_allclose(np.linalg.norm(part.popular), 1.0)
    nothing = head.at(np.zeros(0, dtype=np.int64))
    assert len(nothing) == len(nothing.popular) == len(nothing.scale) == 0


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_popularity_that_no_scale_can_be_taken_from_is_refused(wrong: float) -> None:
    """Such a head would give every shopper a share without a length."""
    with pytest.raises(FeatureError, match=r"not positive and finite; floor the counts"):
        Head(np.array([0, 1]), np.array([1.0, wrong]))


def test_items_and_popularity_of_different_numbers_are_refused() -> None:
    """Both numbers are named."""
    with pytest.raises(FeatureError, match="3 items and 2 popularities"):
        Head(np.arange(3), np.ones(2))


@pytest.mark.parametrize("seed", range(5))
def test_the_popular_strength_is_a_useful_lower_bound(seed: int) -> None:
    """Counts are sums of x / |x|; the exact second moment of E x / |E x| along q is no less, and not twice it."""
    random = np.random.default_rng(seed)
    chance = np.clip(random.gamma(1.0, 0.2, size=40), 0.01, 0.9)
    likes = (random.random((3000, 40)) < chance).astype(float)
    likes = likes[likes.any(axis=1)]
    head = Head(np.arange(40), (likes / np.sqrt(likes.sum(axis=1))[:, None]).sum(axis=0))
    scaled = likes * head.scale
    along = scaled @ head.popular / np.linalg.norm(scaled, axis=1)
    exact = float(np.square(along).sum())
    assert 0.5 * exact < head.popular_strength(len(likes)) <= exact
