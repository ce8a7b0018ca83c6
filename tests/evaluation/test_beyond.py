"""Coverage, novelty and diversity against their definitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from evaluation.beyond import Likeness, coverage, diversity, novelty
from evaluation.errors import EvaluationError
from evaluation.metrics import NOBODY

TOP = np.array([[0, 1, 2], [2, 3, NOBODY], [4, NOBODY, NOBODY], [NOBODY, NOBODY, NOBODY]])


def test_coverage_is_the_share_of_the_catalogue_that_somebody_sees() -> None:
    """Five of ten items."""
    assert coverage(TOP, 10) == pytest.approx(0.5)


def test_novelty_is_the_mean_number_of_bits_an_item_tells() -> None:
    """With 7 shoppers, items had by 7, 3, 1 and 0 of them tell 0, 1, 2 and 3 bits."""
    audience = np.array([7, 3, 1, 0, 3])
    assert novelty(TOP, audience, 7).tolist() == pytest.approx([1.0, 2.5, 1.0, 0.0])


def test_diversity_by_category_counts_pairs_of_different_categories() -> None:
    """An unknown category is like no other, not even another unknown one."""
    likeness = Likeness.by_category(["tea", "tea", "cup", None, None])
    assert diversity(TOP, likeness).tolist() == pytest.approx([2 / 3, 1.0, 0.0, 0.0])
    assert diversity(np.array([[0, 1], [3, 4]]), likeness).tolist() == pytest.approx([0.0, 1.0])


def test_diversity_by_vectors_is_one_minus_the_mean_cosine_of_pairs() -> None:
    """Against a loop over all pairs of each list, to 1e-9."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(50, 8)).astype(np.float32)
    top = np.stack([random.permutation(50)[:10] for _ in range(30)])
    measured = diversity(top, Likeness.by_vectors(vectors))
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    for row in range(30):
        cosines = [unit[a] @ unit[b] for a, b in combinations(top[row].tolist(), 2)]
        assert measured[row] == pytest.approx(1 - np.mean(cosines), abs=1e-9)


def test_likeness_must_know_every_item() -> None:
    """A list with an item index beyond it is an error, not a silent zero."""
    with pytest.raises(EvaluationError, match="knows 3 items"):
        diversity(TOP, Likeness.by_category(["a", "b", "c"]))
