"""A model version as a scorer of a split: histories from train only, and the moment of the held-out event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_world import dataset, random_dataset

from evaluation.split import SplitKind, split
from evaluation.towers import has_clock, histories_of, moments_of, pooled_shoppers, tower_scorer
from model.content import ItemColumns, item_features
from model.features import KINDS
from model.schema import Schema
from simulation.data import Clock

DAY = 86_400


def test_histories_are_the_train_events_oldest_first() -> None:
    """Item, kind and time of every train event, shopper by shopper; nothing of the test."""
    cut = split(random_dataset(3), SplitKind.TIME)
    histories = histories_of(cut)
    assert len(histories.indptr) == len(cut.shoppers) + 1
    assert histories.indptr[-1] == cut.train.height == len(histories.items)
    for shopper in (0, 7, len(cut.shoppers) - 1):
        rows = slice(int(histories.indptr[shopper]), int(histories.indptr[shopper + 1]))
        own = cut.train.filter(cut.train["user_id"] == cut.shoppers[shopper])
        assert [cut.items[item] for item in histories.items[rows]] == own["item_id"].to_list()
        assert [KINDS[kind] for kind in histories.kinds[rows]] == own["kind"].to_list()
        assert list(histories.times[rows]) == own["timestamp"].to_list() == sorted(own["timestamp"])
    assert histories.times.max() < cut.test["timestamp"].to_numpy().min()


def test_pooled_shoppers_draw_independently() -> None:
    """Every shopper has a key of its own for random draws."""
    shoppers = pooled_shoppers(split(random_dataset(3), SplitKind.TIME))
    assert len(np.unique(shoppers.keys)) == len(shoppers)


def test_the_moment_is_that_of_the_first_held_out_event() -> None:
    """A shopper without a held-out event is seen at the end of train; without a clock there is no moment."""
    day = 1_700_000_000 // DAY * DAY
    rows = [(f"s{n}", f"i{i}", "purchase", day + 60 * i) for n in range(4) for i in range(6)]
    rows += [("s0", f"i{6 + late}", "purchase", day + late * DAY) for late in (1, 2, 3)]
    cut = split(dataset(rows), SplitKind.TIME)
    moments = moments_of(cut)
    first = cut.test.filter(cut.test["user_id"] == "s0")["timestamp"].to_numpy().min()
    assert moments.times[0] == first
    assert moments.times[1] == cut.train["timestamp"].to_numpy().max()
    timeless = moments_of(replace(cut, clock=Clock.ORDER))
    assert (timeless.times == -1).all()
    assert [has_clock(clock) for clock in (Clock.SECONDS, Clock.DAYS, Clock.ORDER, Clock.NONE)] == [
        *[True] * 2,
        *[False] * 2,
    ]


def test_a_block_of_shoppers_scores_as_each_alone() -> None:
    """How many are scored at once changes nothing, and all scores are finite."""
    cut = split(random_dataset(5), SplitKind.TIME)
    none: list[str | None] = [None] * len(cut.items)
    columns = ItemColumns(
        titles=[f"thing {i % 4}" for i in range(len(cut.items))],
        categories=none,
        brands=none,
        prices=[None] * len(cut.items),
        descriptions=none,
    )
    features = item_features(columns)
    random = np.random.default_rng(0)
    shapes = Schema(items=len(cut.items), content_features=features.shape[1], dim=4).shapes()
    weights = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    scorer = tower_scorer(weights, features, cut)
    together = scorer(np.arange(10))
    assert together.shape == (10, len(cut.items))
    assert np.isfinite(together).all()
    for shopper in (0, 4, 9):
        np.testing.assert_allclose(scorer(np.array([shopper]))[0], together[shopper], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [SplitKind.TIME, SplitKind.LAST])
def test_scores_do_not_depend_on_what_is_held_out(kind: SplitKind) -> None:
    """With every held-out item and kind replaced the scores stay as they were: nothing leaks."""
    cut = split(random_dataset(6), kind)
    features = item_features(
        ItemColumns(
            titles=[None] * len(cut.items),
            categories=[None] * len(cut.items),
            brands=[None] * len(cut.items),
            prices=[None] * len(cut.items),
            descriptions=[None] * len(cut.items),
        )
    )
    random = np.random.default_rng(1)
    shapes = Schema(items=len(cut.items), content_features=features.shape[1], dim=4).shapes()
    weights = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    other = replace(cut, test=cut.test.reverse(), held_out=cut.seen, relevant=cut.relevant[:, ::-1].tocsr())
    everyone = np.arange(len(cut.shoppers))
    np.testing.assert_array_equal(
        tower_scorer(weights, features, cut)(everyone), tower_scorer(weights, features, other)(everyone)
    )
