"""An item that rises too fast from one version to the next is damped, and nothing else is touched."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from run_words import config, public_items

from model.catalogue import digest_of_ids
from model.encoders import Hashed
from model.schema import COMPLEMENT, Schema, Weights
from model.two_tower import encode_items
from server.coordination.exposure import DEPTH, GROWTH, damped, exposure, limits, watch
from server.coordination.learner import Learner
from server.coordination.probes import LENGTHS, invented_histories, people_for
from server.coordination.releasing import release
from server.registry import Registry

ITEMS, DIM, PEOPLE = 150, 8, 600
TARGET = 140
CATALOGUE = public_items(["m0", "m1"] * 10)


@pytest.fixture(scope="module")
def features() -> sp.csr_matrix:
    """No content: vectors are the embeddings."""
    return sp.csr_matrix(np.zeros((ITEMS, 1), dtype=np.float32))


@pytest.fixture(scope="module")
def before() -> Weights:
    """A version in service with tastes and popularity."""
    return weights_of(1)


def weights_of(seed: int, items: int = ITEMS) -> Weights:
    """Draw weights of a version; the same tastes for every seed, with a little noise of its own."""
    draws = np.random.default_rng(0)
    weights = Schema(items=items, content_features=1, dim=DIM).zeros()
    tastes = draws.integers(0, DIM, items)
    vectors = 1.5 * np.eye(DIM)[tastes] + draws.normal(0, 0.3, (items, DIM))
    noise = np.random.default_rng(seed).normal(0, 0.02, (items, DIM))
    weights["item_id"][:] = vectors + noise
    weights["item_bias"][:] = -np.log(1 + np.arange(items))
    weights["item_bias"] -= weights["item_bias"].mean()
    weights["prior_scale"][:] = 0.25
    weights["gain"][:] = 1.0
    return weights


def pushed(weights: Weights) -> Weights:
    """Make the target one that everybody likes, and popular."""
    attacked = {name: value.copy() for name, value in weights.items()}
    attacked["item_id"][TARGET] = 2.0
    attacked["item_bias"][TARGET] = weights["item_bias"].max()
    return attacked


def test_a_pushed_item_is_named_and_brought_back_and_all_others_keep_their_weights(
    before: Weights, features: sp.csr_matrix
) -> None:
    """Its exposure was nearly none, became the highest, and is within its limit again."""
    attacked = pushed(weights_of(2))
    found = watch(before, attacked, features)
    target = found.damped[0]
    assert target.item == TARGET
    assert target.before < 1 / ITEMS < target.limit == GROWTH / ITEMS < 0.05 < target.pushed
    assert target.after <= target.limit
    held = {one.item for one in found.damped}
    others = np.setdiff1d(np.arange(ITEMS), list(held))
    for name in ("item_id", "item_bias"):
        np.testing.assert_array_equal(found.weights[name][others], attacked[name][others])
        assert not np.array_equal(found.weights[name][TARGET], attacked[name][TARGET])
    assert found.weights.keys() == attacked.keys()


def test_after_the_watch_no_item_is_beyond_its_limit_for_the_people_it_looks_through(
    before: Weights, features: sp.csr_matrix
) -> None:
    """Many items pushed at once as well: the places that one gives up go to the next."""
    attacked = weights_of(3)
    attacked["item_id"][100:130] = 2.0
    found = watch(before, attacked, features)
    people = invented_histories(before, features, people_for(ITEMS))
    limit = limits(exposure(before, features, people), len(people))
    assert (exposure(attacked, features, people) > limit).sum() >= 10
    assert (exposure(found.weights, features, people) <= limit).all()


def test_the_same_version_and_one_with_other_noise_are_let_out_as_they_are(
    before: Weights, features: sp.csr_matrix
) -> None:
    """Nothing rises, so nothing is copied even."""
    for after in (before, weights_of(4)):
        found = watch(before, after, features)
        assert found.damped == ()
        assert found.weights is after


def test_an_item_without_a_prior_that_counts_is_damped_too(before: Weights, features: sp.csr_matrix) -> None:
    """Where popularity adds nothing to a score, a shorter vector still lowers it."""
    attacked = {**pushed(weights_of(5)), "prior_scale": np.zeros(1, np.float32)}
    found = watch({**before, "prior_scale": np.zeros(1, np.float32)}, attacked, features)
    assert found.damped[0].item == TARGET and found.damped[0].after <= found.damped[0].limit


def test_more_damping_shows_an_item_less_down_to_nobody(before: Weights, features: sp.csr_matrix) -> None:
    """So a bisection finds what is enough; what baskets say of the item is damped alike."""
    attacked = pushed(before) | {COMPLEMENT: np.ones((ITEMS, 2), np.float32)}
    people = invented_histories(before, features, PEOPLE)
    shares = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        strengths = np.zeros(ITEMS)
        strengths[TARGET] = strength
        weights = damped(attacked, features, strengths)
        shares.append(float(exposure(weights, features, people)[TARGET]))
        assert weights[COMPLEMENT][TARGET, 0] == pytest.approx(1 - strength)
        np.testing.assert_allclose(
            encode_items(weights, features)[TARGET], (1 - strength) * attacked["item_id"][TARGET], rtol=1e-5
        )
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.05 and shares[-1] == 0.0


def test_invented_people_have_different_items_in_every_length_and_are_the_same_each_time(
    before: Weights, features: sp.csr_matrix
) -> None:
    """Drawn from what is released alone: popular items more often, none twice."""
    people = invented_histories(before, features, PEOPLE)
    lengths = np.diff(people.indptr)
    assert set(lengths.tolist()) == {min(length, ITEMS // 2) for length in LENGTHS}
    for start, stop in zip(people.indptr[:-1], people.indptr[1:], strict=True):
        assert len(set(people.items[start:stop].tolist())) == stop - start
    np.testing.assert_array_equal(invented_histories(before, features, PEOPLE).items, people.items)
    had = np.bincount(people.items, minlength=ITEMS)
    assert had[:15].mean() > 2 * had[-75:].mean()


def test_exposures_add_up_and_leave_out_what_people_have(before: Weights, features: sp.csr_matrix) -> None:
    """Every list has its places; somebody who has half of the catalogue is shown the other half."""
    people = invented_histories(before, features, PEOPLE)
    assert exposure(before, features, people).sum() == pytest.approx(1.0)
    alone = people.select(np.flatnonzero(np.diff(people.indptr) == ITEMS // 2)[:1])
    assert not (exposure(before, features, alone)[alone.items] > 0).any()


def test_a_large_catalogue_is_looked_at_by_fewer_people_and_its_floor_stays_a_number_of_places() -> None:
    """Else one place in one list would be a rise."""
    assert people_for(1_000) == 4096 and people_for(1_000_000) == 512
    assert limits(np.zeros(1_000_000), 512).max() == pytest.approx(GROWTH * 10 / (512 * DEPTH))


class Learned(Learner):
    """A learner that has learned given weights."""

    def __init__(self, weights: Weights) -> None:
        """Over the toy catalogue."""
        super().__init__(CATALOGUE, dim=4, shoppers=100)
        self.weights = weights


def toy_weights(seed: int) -> Weights:
    """Weights over the toy catalogue."""
    schema = Schema(items=len(CATALOGUE), content_features=Hashed().columns, dim=4)
    draws = np.random.default_rng(seed)
    weights = schema.zeros()
    weights["item_id"][:] = draws.normal(0, 1, weights["item_id"].shape)
    weights["gain"][:] = 1.0
    return weights


def card_of(learner: Learner, **words: Any) -> dict[str, Any]:
    """What a comparison reads of a card."""
    encoder = {"name": str(learner.encoder.name), "version": learner.encoder.version}
    return {"item_ids": digest_of_ids(CATALOGUE.item_ids), "encoder": encoder, **words}


def test_a_release_is_compared_with_what_is_served_and_its_card_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is served, other items are, or the same items are: only the last can be compared."""
    settings = config(registry=str(tmp_path))
    learner = Learned(toy_weights(1))
    registry = Registry(tmp_path, unsigned=True)
    first = release(settings, learner, CATALOGUE, card_of(learner))
    assert first.card["exposure"] == {"compared_with": None, "damped_items": 0}
    registry.promote(registry.add(learner.weights, card_of(learner, item_ids="others")).version)
    again = release(settings, learner, CATALOGUE, card_of(learner))
    assert again.card["exposure"]["compared_with"] is None
    assert "another item_ids" in caplog.text
    registry.promote(registry.add(learner.weights, card_of(learner, privacy={"epsilon": 8.0})).version)
    for epsilon, compared in ((8.01, True), (4.0, False), (None, False)):
        card = card_of(learner, privacy={"epsilon": epsilon})
        found = release(settings, learner, CATALOGUE, card).card["exposure"]["compared_with"]
        assert (found is not None) == compared
    registry.promote(first.version)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        second = release(settings, Learned(toy_weights(1)), CATALOGUE, card_of(learner))
    assert second.card["exposure"]["compared_with"] == first.version
    assert second.card["exposure"]["damped"] == [] and caplog.text == ""
    assert json.dumps(second.card)
