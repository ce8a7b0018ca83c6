"""EASE in both scalings and both forms, and the content-only floor."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from evaluation_world import Row, dataset, random_dataset

from evaluation.baselines import Fit, popularity
from evaluation.errors import ProtocolError
from evaluation.linear import content_only, ease, ease_normalised, ease_scorer, unit_rows
from evaluation.metrics import Scores
from evaluation.protocol import evaluate
from evaluation.split import Csr, Split, SplitKind, split


@pytest.fixture(scope="module")
def cut() -> Split:
    """Four tastes, which popularity cannot tell apart and linear models can."""
    return split(random_dataset(3, shoppers=120, items=100, count=3000), SplitKind.LAST)


def _csr(rows: list[list[float]]) -> Csr:
    return sp.csr_matrix(np.array(rows, dtype=np.float32))


def test_two_items_give_the_weights_that_a_hand_can_check() -> None:
    """Three shoppers have both items, one more has the first: B[0, 1] = 3 / (4 + 2), B[1, 0] = 3 / (3 + 2)."""
    rows = _csr([[1, 1], [1, 1], [1, 1], [1, 0]])
    scores = ease_scorer(rows, _csr([[1, 0], [0, 1]]), ridge=2.0)(np.array([0, 1]))
    np.testing.assert_allclose(scores, [[0, 3 / 6], [3 / 5, 0]], atol=1e-6)


def test_a_shopper_of_many_items_says_no_more_than_another_in_the_normalised_gram() -> None:
    """A row of two items adds 1/2 to each entry of the Gram, and a row of one item adds 1."""
    rows = unit_rows(_csr([[1, 1], [1, 0]]))
    scores = ease_scorer(rows, _csr([[1, 0], [0, 1]]), ridge=0.5)(np.array([0, 1]))
    np.testing.assert_allclose(scores, [[0, 0.5 / 2.0], [0.5 / 1.0, 0]], atol=1e-6)


@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_inverting_the_shoppers_side_gives_the_same_scores(cut: Split, ridge: float) -> None:
    """With the same rows in fewer shoppers than items, against the formula of the paper written out."""
    rows = unit_rows(cut.positives)[:40]
    assert rows.shape[0] < rows.shape[1]
    dense = rows.toarray().astype(np.float64)
    inverse = np.linalg.inv(dense.T @ dense + ridge * np.eye(dense.shape[1]))
    weights = np.eye(dense.shape[1]) - inverse / np.diag(inverse)
    found: Scores = ease_scorer(rows, cut.positives, ridge)(np.arange(20))
    np.testing.assert_allclose(found, cut.positives[:20].toarray() @ weights, atol=1e-5)


@pytest.mark.parametrize("fit", [ease, ease_normalised])
def test_ease_finds_the_tastes_that_popularity_misses(cut: Split, fit: Fit) -> None:
    """Clearly above popularity, and the same for another seed: nothing is drawn."""
    scorer = fit(cut, 0)
    floor = evaluate("popularity", popularity(cut, 0), cut).mean("ndcg@10")
    assert evaluate("ease", scorer, cut).mean("ndcg@10") > 1.5 * floor
    np.testing.assert_array_equal(scorer(np.arange(9)), fit(cut, 1)(np.arange(9)))


def test_ease_refuses_a_matrix_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both sides and the bound."""
    monkeypatch.setattr("evaluation.linear.LARGEST", 2)
    rows = _csr([[1, 0, 0, 1]] * 3)
    with pytest.raises(ProtocolError, match=r"3 shoppers and 4 items .* at most 2"):
        ease_scorer(rows, rows, 1.0)


def test_content_only_is_the_cosine_to_the_mean_of_the_history() -> None:
    """A shopper of one red and one round item; an item without features scores 0, however long the others are."""
    rows: list[Row] = [
        ("a", "red", "purchase", 1),
        ("a", "round", "purchase", 2),
        ("a", "both", "purchase", 3),
    ]
    items = ["both", "plain", "red", "round", "tall"]
    cut = split(dataset(rows, items=items), SplitKind.LAST)
    features = _csr([[3, 3, 0], [0, 0, 0], [1, 0, 0], [0, 5, 0], [0, 0, 1]])
    scores = content_only(cut, features, 0)(np.array([0]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(scores, [[1.0, 0.0, half, half, 0.0]], atol=1e-6)
