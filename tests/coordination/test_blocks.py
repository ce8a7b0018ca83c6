"""Parts of contributions go back to the right entries of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.spectral import symmetric
from proto.federation import DEVICES, MERCHANT_PART
from server.coordination.blocks import gram_of, scatter_counts, scatter_gram, triangle


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_scattered_parts_are_the_block_diagonal_of_the_whole(side: int, merchants: int, seed: int) -> None:
    """Merchants' triangles plus the devices' one are the sum of full matrices, entry by entry."""
    random = np.random.default_rng(seed)
    owner = random.integers(0, merchants, side)
    owners = {str(name): np.flatnonzero(owner == name) for name in range(merchants)}
    whole = random.normal(size=(side, side))
    whole += whole.T
    blocks = np.where(owner[:, None] == owner[None, :], random.normal(size=(side, side)), 0.0)
    blocks += blocks.T
    totals = {
        MERCHANT_PART + name: blocks[np.ix_(own, own)][np.triu_indices(len(own))]
        for name, own in owners.items()
    }
    totals[DEVICES] = whole[np.triu_indices(side)]
    np.testing.assert_allclose(symmetric(scatter_gram(totals, owners, side)), whole + blocks)


def test_counts_of_devices_and_merchants_meet_at_the_items() -> None:
    """Each merchant's counts land on its own items; devices' counts cover all."""
    owners = {"a": np.array([0, 3]), "b": np.array([1]), "c": np.array([2])}
    totals = {
        DEVICES: np.array([1.0, 1, 1, 1]),
        MERCHANT_PART + "a": np.array([10.0, 20]),
        MERCHANT_PART + "b": np.array([5.0]),
    }
    np.testing.assert_array_equal(scatter_counts(totals, owners, 4), [11, 6, 1, 21])
    np.testing.assert_array_equal(totals[DEVICES], np.ones(4))
    np.testing.assert_array_equal(scatter_counts({}, owners, 4), np.zeros(4))


def test_a_merchant_without_head_items_has_an_empty_triangle() -> None:
    """Nothing of it is added and nothing fails."""
    owners = {"a": np.array([0, 1]), "b": np.zeros(0, dtype=np.int64)}
    totals = {MERCHANT_PART + "a": np.array([1.0, 2, 3]), MERCHANT_PART + "b": np.zeros(0)}
    assert triangle(0) == 0
    np.testing.assert_array_equal(scatter_gram(totals, owners, 2), [1, 2, 3])


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_a_triangle_takes_the_factor_off_the_diagonal_back(side: int, seed: int) -> None:
    """Entries off the diagonal travel times sqrt(2), so that the triangle is as long as the matrix."""
    drawn = np.random.default_rng(seed).normal(size=(side, side))
    gram = drawn + drawn.T
    rows, columns = np.triu_indices(side)
    upper = gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    assert np.linalg.norm(upper) == pytest.approx(np.linalg.norm(gram))
    np.testing.assert_allclose(gram_of(upper), gram, atol=1e-12)
