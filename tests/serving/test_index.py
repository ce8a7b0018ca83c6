"""The vector index finds what comparing with every item finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.serving.index import VectorIndex, largest


@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 30), st.booleans())
def test_the_largest_are_those_of_a_full_sort(seed: int, items: int, m: int, coarse: bool) -> None:
    """Ties, as coarse scores have them, go by column."""
    scores = np.random.default_rng(seed).normal(size=(2, items)).astype(np.float32)
    scores = np.round(scores) if coarse else scores
    found, values = largest(scores, min(m, items))
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :m]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("items", [1, 5, 1000])
def test_a_search_gives_servable_items_with_their_scores(items: int) -> None:
    """More is asked for than there is: rows end in no item, and no barred item is found."""
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(items, 9)).astype(np.float32)
    queries = generator.normal(size=(3, 9)).astype(np.float32)
    servable = np.arange(items) % 3 != 0
    index = VectorIndex(vectors, servable)
    found, scores = index.search(queries, items + 10)
    assert found.shape == scores.shape == (3, items)
    for query, row, values in zip(queries, found, scores, strict=True):
        listed = row[row >= 0]
        assert sorted(listed.tolist()) == np.flatnonzero(servable).tolist()
        assert np.isneginf(values[len(listed) :]).all()
        assert (np.diff(values[: len(listed)]) <= 0).all()
        np.testing.assert_allclose(values[: len(listed)], index.score(query, listed), rtol=1e-5, atol=1e-6)
