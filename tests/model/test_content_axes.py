"""Content axes are orthonormal, know nothing of popularity, and are as many as content tells apart."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.content_axes import content_axes

Array = NDArray[np.float64]


def features(items: int, columns: int, seed: int = 0) -> sp.csr_matrix:
    """Random sparse features."""
    random = np.random.default_rng(seed)
    made = random.random((items, columns)) * (random.random((items, columns)) < 0.5)
    return sp.csr_matrix(made.astype(np.float32))


def popular(items: int, seed: int = 0) -> Array:
    """A unit vector of positive entries."""
    drawn = np.random.default_rng(seed).random(items) + 0.1
    return np.asarray(drawn / np.linalg.norm(drawn))


@given(
    items=st.integers(2, 40), columns=st.integers(2, 30), dim=st.integers(1, 50), seed=st.integers(0, 9_999)
)
def test_axes_are_orthonormal_and_perpendicular_to_what_is_popular(
    items: int, columns: int, dim: int, seed: int
) -> None:
    """Whatever the content: otherwise a share read in them would be longer, or tell counts again."""
    liked = popular(items, seed)
    axes = content_axes(features(items, columns, seed), liked, dim)
    assert axes.dtype == np.float32
    assert axes.shape[1] <= min(dim, items - 1, columns - 1)
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-5)
    np.testing.assert_allclose(liked @ axes, 0.0, atol=1e-5)


def test_alike_items_lie_at_the_same_place() -> None:
    """Items with equal content and equal popularity have equal rows; others have not."""
    made = features(12, 8)
    twins = sp.vstack([made, made]).tocsr()
    axes = content_axes(twins, np.full(24, 24**-0.5), 6)
    np.testing.assert_allclose(axes[:12], axes[12:], atol=1e-5)
    assert np.linalg.norm(axes[0] - axes[1]) > 1e-2


def test_content_of_lower_rank_gives_fewer_axes() -> None:
    """Thirty features that are all mixtures of three have three directions, not rounding beside them."""
    random = np.random.default_rng(3)
    mixed = sp.csr_matrix((random.random((40, 3)) @ random.random((3, 30))).astype(np.float32))
    axes = content_axes(mixed, popular(40), 20)
    assert axes.shape == (40, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(("items", "columns", "most"), [(5, 30, 4), (40, 6, 5), (3, 3, 2)])
def test_a_small_catalogue_has_fewer_axes_than_asked_for(items: int, columns: int, most: int) -> None:
    """The default asks for 256; neither five items nor six features have so many."""
    assert 1 <= content_axes(features(items, columns), popular(items)).shape[1] <= most


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (sp.csr_matrix(np.zeros((6, 4), dtype=np.float32)), "no content"),
        (features(1, 8), "one item"),
        (features(6, 1), "one feature"),
        (sp.csr_matrix(np.ones((6, 4), dtype=np.float32)), "all items alike, and equally popular"),
    ],
)
def test_content_that_tells_nothing_apart_has_no_axis(made: sp.csr_matrix, words: str) -> None:
    """An empty table, one row per item; no error, and no direction of rounding."""
    items = made.shape[0]
    assert content_axes(made, np.full(items, items**-0.5)).shape == (items, 0), words
