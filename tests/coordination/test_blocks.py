"""Released parts go back to the right entries of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.head import triangle
from proto.federation import DEVICES, MERCHANT_PART
from server.coordination.blocks import gram_of, scatter_counts


def test_counts_of_merchants_land_on_their_own_items() -> None:
    """Each merchant has a part of its own; an item of nobody's counts nothing."""
    owners = {"a": np.array([0, 3]), "b": np.array([1]), "c": np.zeros(0, dtype=np.int64)}
    totals = {
        MERCHANT_PART + "a": np.array([10.0, 20]),
        MERCHANT_PART + "b": np.array([5.0]),
        MERCHANT_PART + "c": np.zeros(0),
    }
    np.testing.assert_array_equal(scatter_counts(totals, owners, 4), [10, 5, 0, 20])


def test_one_part_of_all_items_is_the_counts_already() -> None:
    """Where devices take part, merchants have added theirs to it before it left."""
    totals = {DEVICES: np.array([1.0, 2, 3])}
    np.testing.assert_array_equal(scatter_counts(totals, {"a": np.array([0])}, 3), [1, 2, 3])


def test_a_triangle_over_nothing_has_no_entries() -> None:
    """A merchant without head items has an empty one."""
    assert [triangle(side) for side in (0, 1, 2, 5)] == [0, 1, 3, 15]


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_a_triangle_takes_the_factor_off_the_diagonal_back(side: int, seed: int) -> None:
    """Entries off the diagonal travel times sqrt(2), so that the triangle is as long as the matrix."""
    drawn = np.random.default_rng(seed).normal(size=(side, side))
    gram = drawn + drawn.T
    rows, columns = np.triu_indices(side)
    upper = gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    assert np.linalg.norm(upper) == pytest.approx(np.linalg.norm(gram))
    np.testing.assert_allclose(gram_of(upper), gram, atol=1e-12)
