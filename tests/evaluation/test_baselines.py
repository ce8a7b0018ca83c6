"""Popularity, item neighbours and iALS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from evaluation_world import Row, dataset, random_dataset

from evaluation.baselines import Fit, best_of, popularity
from evaluation.factors import ials
from evaluation.metrics import Indices
from evaluation.neighbours import item_neighbours, neighbours
from evaluation.protocol import Scorer, evaluate
from evaluation.split import Csr, Split, SplitKind, choose, split
from simulation.data.loading import load

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def cut() -> Split:
    """Four tastes, which popularity cannot tell apart and the others can."""
    return split(random_dataset(3, shoppers=300, items=160, count=9000), SplitKind.LAST)


def _everybody(cut: Split) -> Indices:
    return np.arange(len(cut.shoppers), dtype=np.int64)


def test_popularity_counts_shoppers_and_not_events() -> None:
    """Three purchases by one shopper weigh less than one each by two; a return weighs nothing."""
    rows: list[Row] = [("a", "x", "purchase", 1), ("a", "x", "purchase", 2), ("a", "x", "purchase", 3)]
    rows += [
        ("a", "y", "purchase", 4),
        ("b", "y", "view", 1),
        ("b", "x", "return", 2),
        ("a", "z", "view", 9),
        ("b", "z", "view", 9),
    ]
    scores = popularity(split(dataset(rows), SplitKind.LAST), 0)(np.array([0, 1]))
    assert scores.tolist() == [[1.0, 2.0, 0.0]] * 2


def test_neighbours_are_the_largest_cosines_of_the_binary_matrix(
    cut: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a dense computation, worked out in blocks of seven items."""
    monkeypatch.setattr("evaluation.neighbours._CELLS", 7 * len(cut.items))
    dense = cut.positives.toarray().astype(np.float64)
    norms = np.linalg.norm(dense, axis=0)
    cosine = dense.T @ dense / np.maximum(np.outer(norms, norms), 1.0)
    np.fill_diagonal(cosine, 0.0)
    nearest = neighbours(cut.positives, 5)
    for item in range(len(cut.items)):
        mine = nearest[item]
        expected = np.sort(cosine[item])[::-1][:5]
        np.testing.assert_allclose(mine.data, expected[expected > 0], atol=1e-6)
        np.testing.assert_allclose(cosine[item, mine.indices], mine.data, atol=1e-6)


def test_an_item_without_shoppers_has_no_neighbours() -> None:
    """And an item is never its own neighbour."""
    positives: Csr = sp.csr_matrix(np.array([[1, 0, 1], [1, 0, 0]], dtype=np.float32))
    nearest = neighbours(positives, 2)
    assert nearest.toarray() == pytest.approx(
        np.array([[0, 0, 1 / np.sqrt(2)], [0, 0, 0], [1 / np.sqrt(2), 0, 0]])
    )


@pytest.mark.parametrize("fit", [item_neighbours, ials])
def test_personal_baselines_find_the_tastes_that_popularity_misses(cut: Split, fit: Fit) -> None:
    """Clearly above popularity, and the same scores again for the same seed."""
    scorer = fit(cut, 0)
    floor = evaluate("popularity", popularity(cut, 0), cut).mean("ndcg@10")
    assert evaluate("personal", scorer, cut).mean("ndcg@10") > 1.5 * floor
    np.testing.assert_array_equal(scorer(_everybody(cut)), fit(cut, 0)(_everybody(cut)))


@pytest.mark.parametrize("fit", [popularity, item_neighbours, ials])
def test_no_baseline_looks_at_the_test(cut: Split, fit: Fit) -> None:
    """With the held-out part exchanged for another one, every score stays the same."""
    relevant = sp.csr_matrix(np.roll(cut.relevant.toarray(), 1, axis=0) * (1 - cut.seen.toarray()))
    blind = Split(
        kind=cut.kind,
        clock=cut.clock,
        shoppers=cut.shoppers,
        items=cut.items,
        train=cut.train,
        test=cut.test.clear(),
        seen=cut.seen,
        positives=cut.positives,
        held_out=relevant,
        relevant=relevant,
        moments=cut.moments,
    )
    np.testing.assert_array_equal(fit(blind, 0)(_everybody(cut)), fit(cut, 0)(_everybody(cut)))


def _prefers(right: str) -> Callable[[Split], Callable[[str], Scorer]]:
    """A family of scorers, one of which knows the validation cut."""

    def fitter(inner: Split) -> Callable[[str], Scorer]:
        def fit(setting: str) -> Scorer:
            sign = 1.0 if setting == right else -1.0
            return lambda shoppers: sign * inner.relevant[shoppers].toarray()

        return fit

    return fitter


def test_settings_are_chosen_on_a_validation_cut(cut: Split) -> None:
    """Whichever setting is right there wins, wherever it stands."""
    for right in ("first", "second", "third"):
        assert best_of(["first", "second", "third"], _prefers(right), cut, 0) == right


def test_the_default_is_kept_where_train_is_too_small_to_be_cut_again() -> None:
    """Every shopper has one train item: there is nothing to validate on, and yet a model."""
    rows: list[Row] = [
        (f"s{n}", item, "purchase", t) for n in range(9) for t, item in enumerate("xy", start=1)
    ]
    tiny = split(dataset(rows), SplitKind.LAST)
    assert best_of(["first", "second"], _prefers("second"), tiny, 0) == "first"
    for fit in (item_neighbours, ials):
        assert fit(tiny, 0)(_everybody(tiny)).shape == (9, 2)


def test_baselines_of_movielens_keep_their_order() -> None:
    """On ml-100k: popularity in its known range, iALS clearly above it in NDCG@10 and AUC."""
    if not (SHARED / "ml-100k").is_dir():
        pytest.skip("shared/data/ml-100k is not here")
    data = load(SHARED / "ml-100k")
    assert choose(data) is SplitKind.TIME
    cut = split(data, SplitKind.LAST)
    known = evaluate("popularity", popularity(cut, 0), cut)
    factors = evaluate("ials", ials(cut, 0), cut)
    assert known.mean("ndcg@10") == pytest.approx(0.045, abs=0.004)
    assert factors.mean("ndcg@10") > 1.3 * known.mean("ndcg@10")
    assert factors.mean("auc") > known.mean("auc")
