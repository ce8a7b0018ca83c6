"""Cold items: nothing of them is in train, all are cold once, and content with a small release serves them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from evaluation_world import random_dataset

from evaluation.cold_items import (
    FOLDS,
    METRICS,
    Candidates,
    ColdCut,
    among,
    cold_cut,
    judged,
    pooled,
)
from evaluation.cold_models import (
    NOISY_DIRECTIONS,
    NOISY_HEAD,
    STRENGTHS,
    ContentTower,
    category_popularity,
)
from evaluation.cold_table import CATEGORY, CONTENT, NEIGHBOURS, NO_DP, POPULARITY, PRIVATE, cold_table
from evaluation.errors import SplitError
from evaluation.linear import content_only
from evaluation.metrics import Indices, Scores
from evaluation.protocol import paired_difference
from model.catalogue import PublicItems
from model.content import ItemColumns
from privacy.mechanism import SeededNoise
from simulation.data.dataset import Dataset

ITEMS = 400


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Shoppers of four tastes, each mostly inside a quarter of the catalogue."""
    return random_dataset(3, shoppers=150, items=ITEMS, count=6000)


@pytest.fixture(scope="module")
def cuts(data: Dataset) -> list[ColdCut]:
    """All folds."""
    return [cold_cut(data, fold) for fold in range(FOLDS)]


@pytest.fixture(scope="module")
def tower() -> ContentTower:
    """Features that tell the quarter of an item, and forty columns of nothing."""
    random = np.random.default_rng(0)
    quarters = np.eye(4)[np.arange(ITEMS) // (ITEMS // 4)]
    noise = 0.5 * random.standard_normal((ITEMS, 100)) / 10.0
    return ContentTower.of(sp.csr_matrix(np.hstack([quarters, noise]), dtype=np.float32))


def test_train_knows_nothing_of_cold_items(cuts: list[ColdCut]) -> None:
    """No event of any kind, no column of any matrix, and test is about them alone."""
    for cut in cuts:
        assert not cut.known[cut.cold].any() and cut.known.sum() + len(cut.cold) == ITEMS
        assert not cut.split.seen[:, cut.cold].nnz
        assert not cut.split.relevant[:, np.flatnonzero(cut.known)].nnz
        assert not set(cut.split.train["item"]) & set(cut.cold.tolist())


def test_every_item_is_cold_in_one_fold(cuts: list[ColdCut]) -> None:
    """So the mean over the folds is about the whole catalogue, by a public seed."""
    assert sorted(np.concatenate([cut.cold for cut in cuts]).tolist()) == list(range(ITEMS))


def test_a_validation_cut_never_sees_the_test(cuts: list[ColdCut]) -> None:
    """Its cold items were known, its events are train events, and the truly cold stay unknown."""
    outer, inner = cuts[0], cuts[0].validation()
    assert outer.known[inner.cold].all()
    assert not inner.known[outer.cold].any() and not inner.known[inner.cold].any()
    both = pl.concat([inner.split.train, inner.split.test]).select("user_id", "item_id", "timestamp", "kind")
    assert both.join(outer.split.train, on=both.columns, how="anti").is_empty()


@pytest.mark.parametrize("fold", [-1, FOLDS])
def test_a_fold_that_does_not_exist_is_refused(data: Dataset, fold: int) -> None:
    """The error names the folds there are."""
    with pytest.raises(SplitError, match=f"fold is {fold}; it must be 0 to 4"):
        cold_cut(data, fold)


def test_among_ranks_the_given_items_first_and_keeps_their_order() -> None:
    """The others come after, whatever they scored."""
    scorer = among(lambda shoppers: np.array([[5.0, 1.0, 9.0, 2.0]]), np.array([1, 3]))
    assert np.argsort(-scorer(np.array([0]))[0]).tolist() == [3, 1, 2, 0]


def test_competing_with_all_items_is_never_easier(cuts: list[ColdCut], tower: ContentTower) -> None:
    """The same scores give at most the recall that they give among cold items."""
    scorer = content_only(cuts[0].split, tower.features, 0)
    cold = judged("content", scorer, cuts[0], Candidates.COLD)
    everything = judged("content", scorer, cuts[0], Candidates.ALL)
    assert (cold.per_shopper["recall@50"] >= everything.per_shopper["recall@50"]).all()
    assert cold.mean("recall@50") > everything.mean("recall@50")


def test_pooled_values_are_a_shoppers_mean_over_folds(cuts: list[ColdCut], tower: ContentTower) -> None:
    """By hand for one shopper; models pooled over the same folds can be compared in pairs."""
    results = [judged("m", content_only(cut.split, tower.features, 0), cut, Candidates.COLD) for cut in cuts]
    whole = pooled(results, [cut.split for cut in cuts])
    names = sorted({name for cut in cuts for name in cut.split.shoppers})
    name = names[int(whole.shoppers[7])]
    mine = [
        result.per_shopper["recall@50"][row]
        for result, cut in zip(results, cuts, strict=True)
        for row, shopper in enumerate(result.shoppers)
        if cut.split.shoppers[shopper] == name
    ]
    assert whole.per_shopper["recall@50"][7] == pytest.approx(np.mean(mine))
    assert set(whole.per_shopper) == set(METRICS)
    assert paired_difference(whole, pooled(results, [cut.split for cut in cuts]), "ndcg@10").high == 0.0


def test_category_popularity_lends_a_cold_item_the_audience_of_its_kind(cuts: list[ColdCut]) -> None:
    """Items of one category score alike; an item's own held-out audience plays no part."""
    kinds = [f"k{index % 3}" for index in range(ITEMS)]
    score = category_popularity(cuts[0], kinds)(np.array([0]))[0]
    assert len(set(score.tolist())) == 3
    audience = np.bincount(cuts[0].split.positives.indices, minlength=ITEMS)
    means = [audience[cuts[0].known & (np.arange(ITEMS) % 3 == kind)].mean() for kind in range(3)]
    assert np.argsort(means).tolist() == np.argsort(score[:3]).tolist()


def test_without_strength_the_tower_is_content_alone(cuts: list[ColdCut], tower: ContentTower) -> None:
    """Whatever was released, a strength of 0 learns nothing from it."""
    noisy = tower.release(cuts[0], 1.0, SeededNoise(1))
    exact = tower.release(cuts[0], np.inf, SeededNoise(1))
    for name, value in tower.weights(noisy, 0.0).items():
        np.testing.assert_array_equal(value, tower.weights(exact, 0.0)[name])


def test_a_release_changes_head_items_alone(cuts: list[ColdCut], tower: ContentTower) -> None:
    """A cold item's vector is its content: nothing about it was released."""
    released = tower.release(cuts[0], 4.0, SeededNoise(2))
    moved = (tower.weights(released, 0.6)["item_id"] != tower.weights(released, 0.0)["item_id"]).any(axis=1)
    assert moved.any() and set(np.flatnonzero(moved)) <= set(released.head.tolist())
    assert not set(released.head.tolist()) & set(cuts[0].cold.tolist())
    assert released.total.shape == (min(NOISY_HEAD, int(cuts[0].known.sum())), NOISY_DIRECTIONS)
    assert released.noise_std == pytest.approx((4.0 * 0.75) ** -0.5)


def test_content_finds_cold_items_where_audiences_cannot(cuts: list[ColdCut], tower: ContentTower) -> None:
    """Tastes follow content here, so the tower is far above a list that is the same for all."""

    def same_for_all(shoppers: Indices) -> Scores:
        return np.broadcast_to(np.arange(ITEMS, dtype=np.float64), (shoppers.size, ITEMS))

    released = tower.release(cuts[0], np.inf, SeededNoise(3))
    ours = judged("ours", tower.scorer(released, cuts[0], 0.15), cuts[0], Candidates.COLD)
    floor = judged("floor", same_for_all, cuts[0], Candidates.COLD)
    assert paired_difference(ours, floor, "ndcg@10").low > 0.05


def test_the_strength_is_the_one_that_validates_best(cuts: list[ColdCut], tower: ContentTower) -> None:
    """By the recall@50 that is reported, on a cut of train; of equals the smallest, which trusts least."""
    inner = cuts[0].validation()
    released = tower.release(inner, 2.0, SeededNoise(5))
    values = [
        judged("one", tower.scorer(released, inner, strength), inner, Candidates.COLD).mean("recall@50")
        for strength in STRENGTHS
    ]
    assert tower.choose(released, inner) == STRENGTHS[int(np.argmax(values))]


def test_the_table_has_all_models_on_the_same_shoppers(data: Dataset, tower: ContentTower) -> None:
    """So any two can be compared in pairs; exact popularity knows nothing of items it never saw."""
    columns = ItemColumns(
        titles=[None] * ITEMS,
        categories=[None] * ITEMS,
        brands=[f"b{item // 100}" for item in range(ITEMS)],
        prices=[None] * ITEMS,
        descriptions=[None] * ITEMS,
    )
    ids = tuple(data.items["item_id"])
    catalogue = PublicItems(item_ids=ids, merchant_ids=("m",) * ITEMS, columns=columns)
    table = cold_table(
        data, catalogue, tower.features, epsilon=8.0, delta=1e-3, candidates=Candidates.COLD, seed=1
    )
    assert list(table) == [POPULARITY, CATEGORY, NEIGHBOURS, CONTENT, NO_DP, PRIVATE]
    assert len({tuple(result.shoppers) for result in table.values()}) == 1
    assert paired_difference(table[NO_DP], table[POPULARITY], "ndcg@10").low > 0.05
    assert paired_difference(table[PRIVATE], table[POPULARITY], "ndcg@10").low > 0.05
