"""The central twin learns what the data hold, never from the test, and the same again for one seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from evaluation_world import Alternating, random_dataset, without_content

from evaluation import central
from evaluation.baselines import popularity
from evaluation.central import CHECKED_STEPS, central_twin
from evaluation.protocol import Result, Scorer, evaluate
from evaluation.split import Split, SplitKind, split
from evaluation.towers import tower_scorer
from model.catalogue import PublicItems
from model.content import ItemColumns
from model.schema import check
from server.coordination import learner

DIM = 8


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two content features in place of thousands."""
    without_content(monkeypatch)


def features(items: int) -> sp.csr_matrix:
    """Two content features that tell nothing."""
    return sp.csr_matrix(np.eye(2)[np.arange(items) % 2])


def catalogue(cut: Split) -> PublicItems:
    """The split's items of one merchant."""
    none: list[str | None] = [None] * len(cut.items)
    columns = ItemColumns(
        titles=none, categories=none, brands=none, prices=[None] * len(cut.items), descriptions=none
    )
    return PublicItems(item_ids=cut.items, merchant_ids=("m",) * len(cut.items), columns=columns)


@pytest.fixture(scope="module")
def cut() -> Split:
    """Shoppers of four tastes."""
    return split(random_dataset(4), SplitKind.TIME)


def test_the_twin_finds_the_tastes_that_popularity_cannot_see(cut: Split) -> None:
    """On shoppers who stay in their quarter of the catalogue it is far above popularity."""
    weights = central_twin(cut, catalogue(cut), DIM, 0)
    check(weights, learner.Learner(catalogue(cut), dim=DIM, shoppers=2).schema)
    twin = evaluate("twin", tower_scorer(weights, features(len(cut.items)), cut), cut, ks=(10,))
    popular = evaluate("popularity", popularity(cut, 0), cut, ks=(10,))
    assert twin.mean("ndcg@10") > 1.3 * popular.mean("ndcg@10")


def test_one_seed_gives_one_twin_and_the_test_is_never_looked_at(cut: Split) -> None:
    """The twin of a split whose test was exchanged is the same twin."""
    first = central_twin(cut, catalogue(cut), DIM, 0)
    other = replace(cut, test=cut.test.head(1), relevant=cut.relevant[:, ::-1].tocsr(), held_out=cut.seen)
    second = central_twin(other, catalogue(cut), DIM, 0)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def test_the_twin_reads_the_catalogue_with_the_encoder_that_it_is_given(cut: Split) -> None:
    """It can then be judged with the features of the run, however many these are."""
    encoder, items = Alternating(columns=3), catalogue(cut)
    weights = central_twin(cut, items, DIM, 0, encoder)
    assert weights["content"].shape == (3, DIM)
    twin = tower_scorer(weights, encoder.encode(items.columns), cut)
    assert evaluate("twin", twin, cut, ks=(10,)).mean("ndcg@10") > 0


def test_the_recipe_is_chosen_on_a_validation_cut_of_train(
    cut: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate is judged once, and on no event of the test."""
    judged: list[Split] = []

    def spied(name: str, scorer: Scorer, on: Split, *, ks: tuple[int, ...]) -> Result:
        judged.append(on)
        return evaluate(name, scorer, on, ks=ks)

    monkeypatch.setattr(central, "evaluate", spied)
    central_twin(cut, catalogue(cut), DIM, 0)
    assert len(judged) == 2 * len(CHECKED_STEPS)
    for on in judged:
        assert on.train.height + on.test.height <= cut.train.height
        assert on.test["timestamp"].to_numpy().max() < cut.test["timestamp"].to_numpy().min()
