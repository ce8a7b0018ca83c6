"""Ranking metrics against independent implementations and brute force."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from evaluation.errors import ScoresError
from evaluation.metrics import ACCURACY, NOBODY, Floats, auc, hits_of, list_metrics, masked, top_items
from evaluation.split import Csr

KS = (1, 5, 10, 20)


def _csr(rows: list[list[int]]) -> Csr:
    return sp.csr_matrix(np.array(rows, dtype=np.float32))


def _world(seed: int, shoppers: int = 40, items: int = 60) -> tuple[Floats, Csr, Csr]:
    """Random distinct scores, seen items and relevant items (1 to 25 each, none of them seen)."""
    random = np.random.default_rng(seed)
    scores = random.permutation(shoppers * items).reshape(shoppers, items) / 7.0
    seen, relevant = np.zeros((2, shoppers, items), dtype=np.float32)
    for row in range(shoppers):
        mine = random.permutation(items)
        few, many = int(random.integers(0, 20)), int(random.integers(1, 26))
        seen[row, mine[:few]], relevant[row, mine[few : few + many]] = 1.0, 1.0
    return scores, sp.csr_matrix(seen), sp.csr_matrix(relevant)


def _measured(scores: Floats, seen: Csr, relevant: Csr) -> dict[str, Floats]:
    candidates = masked(scores, seen)
    hits = hits_of(top_items(candidates, max(KS)), relevant)
    return list_metrics(hits, np.diff(relevant.indptr), KS)


@pytest.fixture(scope="module")
def ranx() -> Iterator[Any]:
    """The package in plain Python: compiling it first would take most of a minute."""
    config = importlib.import_module("numba").config
    before, config.DISABLE_JIT = config.DISABLE_JIT, True
    yield importlib.import_module("ranx")
    config.DISABLE_JIT = before


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_equals_ranx(seed: int, ranx: Any) -> None:
    """Every metric of every shopper at every depth agrees with ranx to 1e-9."""
    Qrels, Run, judge = ranx.Qrels, ranx.Run, ranx.evaluate
    scores, seen, relevant = _world(seed)
    unseen = seen.toarray() == 0
    run = {
        f"q{s:03d}": {f"d{i:03d}": float(scores[s, i]) for i in np.flatnonzero(unseen[s])}
        for s in range(scores.shape[0])
    }
    wanted = {f"q{s:03d}": {f"d{i:03d}": 1 for i in relevant[s].indices} for s in range(scores.shape[0])}
    names = [f"{metric}@{k}" for metric in ACCURACY for k in KS]
    expected = judge(Qrels(wanted), Run(run), names, return_mean=False)
    measured = _measured(scores, seen, relevant)
    assert set(measured) == set(names)
    for name in names:
        assert expected[name].max() > 0
        np.testing.assert_allclose(measured[name], expected[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("distinct", [3, 10, 10_000])
def test_auc_equals_the_share_of_ordered_pairs_and_the_rank_sum_test(distinct: int) -> None:
    """With few and with many ties, against both definitions."""
    scores, seen, relevant = _world(9)
    scores = np.floor(scores / scores.max() * distinct)
    candidates = masked(scores, seen)
    areas = auc(candidates, relevant)
    for row in range(scores.shape[0]):
        good = relevant[row].toarray()[0] > 0
        bad = (seen[row].toarray()[0] == 0) & ~good
        wins = scores[row, good][:, None] - scores[row, bad][None, :]
        assert areas[row] == pytest.approx(((wins > 0) + 0.5 * (wins == 0)).mean(), abs=1e-12)
        statistic = mannwhitneyu(scores[row, good], scores[row, bad]).statistic
        assert areas[row] == pytest.approx(statistic / good.sum() / bad.sum(), abs=1e-12)


def test_auc_is_half_where_every_candidate_is_relevant() -> None:
    """There is nothing to tell apart."""
    seen, relevant = _csr([[1, 0, 0]]), _csr([[0, 1, 1]])
    assert auc(masked(np.array([[3.0, 2.0, 1.0]]), seen), relevant).tolist() == [0.5]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 9))
def test_the_best_items_are_those_of_a_full_sort_with_ties_by_index(seed: int, k: int, items: int) -> None:
    """Against a lexicographic sort, with many ties, seen items and lists longer than the catalogue."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 4, (5, items)).astype(np.float32)
    hidden = random.random((5, items)) < 0.3
    top = top_items(masked(scores, sp.csr_matrix(hidden.astype(np.float32))), k)
    for row in range(5):
        order = np.lexsort((np.arange(items), -scores[row]))
        expected = [int(item) for item in order if not hidden[row, item]][:k]
        assert top[row].tolist() == expected + [NOBODY] * (k - len(expected))


def test_a_short_list_counts_as_if_it_were_filled_with_misses() -> None:
    """Two candidates, both right: precision at 10 is 0.2, everything else is perfect."""
    seen, relevant = _csr([[1, 0, 0]]), _csr([[0, 1, 1]])
    hits = hits_of(top_items(masked(np.array([[9.0, 2.0, 1.0]]), seen), 10), relevant)
    values = {name: float(value[0]) for name, value in list_metrics(hits, np.array([2]), [10]).items()}
    assert values.pop("precision@10") == pytest.approx(0.2)
    assert values.pop("f1@10") == pytest.approx(1 / 3)
    assert values == pytest.approx(dict.fromkeys(["recall@10", "ndcg@10", "mrr@10", "map@10"], 1.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    """One bad score is enough."""
    seen = _csr([[0, 0, 0], [0, 0, 0]])
    with pytest.raises(ScoresError, match="NaN or infinite"):
        masked(np.array([[0.0, 1.0, 2.0], [0.0, bad, 2.0]]), seen)


def test_scores_of_another_shape_are_refused() -> None:
    """The message names both shapes."""
    with pytest.raises(ScoresError, match=r"\(2, 4\).*\(2, 3\)"):
        masked(np.zeros((2, 4)), _csr([[0, 0, 0], [0, 0, 0]]))


def test_masking_leaves_the_scorers_array_alone() -> None:
    """Whole-number scores are welcome, and a scorer may answer with a view of its own weights."""
    scores = np.array([[3, 2, 1]])
    candidates = masked(scores, _csr([[0, 1, 0]]))
    assert candidates.tolist() == [[3.0, -np.inf, 1.0]] and scores.tolist() == [[3, 2, 1]]
