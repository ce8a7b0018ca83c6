"""The graph that the endpoint runs says what the towers of the trainer say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tower_world import Vectors, random_histories, random_moments, random_weights

from model.features import (
    FUSION_FEATURES,
    POSITION_BUCKETS,
    Histories,
    Moments,
    log_bucket,
    positions_from_end,
)
from model.fusion import fusion_weights
from model.onnx_tower import ABSENT, event_codes, tower_graph
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples
from model.schema import UserTower as TowerKind
from model.schema import Weights
from model.torch_tower import SECTIONS, TowerLoss, pack
from model.two_tower import age_buckets, encode_users
from server.serving.tower import Fused, Reading, UserTower

ITEMS, DIM, COMPLEMENT = 400, 16, 5
HOME, DETAIL, CART = 0, 2, 3


def world(seed: int, kind: TowerKind, *, scale: float = 0.5) -> tuple[Weights, Vectors]:
    """Random weights with complement vectors, and the index rows [v | w | p]."""
    random = np.random.default_rng(seed)
    weights = random_weights(random, items=ITEMS, dim=DIM, scale=scale, user_tower=kind)
    weights["complement"] = random.normal(size=(ITEMS, COMPLEMENT)).astype(np.float32)
    vectors = random.normal(size=(ITEMS, DIM)) / np.sqrt(DIM)
    rows = np.concatenate([vectors, weights["complement"], weights["item_bias"][:, None]], axis=1)
    return weights, rows.astype(np.float32)


def trained_like(weights: Weights) -> Weights:
    """What training makes of a tower: later and stronger events count more, context and rarity stay weak."""
    return {
        **weights,
        "gain": np.abs(weights["gain"]) + 1,
        "position_weight": np.linspace(1, -2, POSITION_BUCKETS).astype(np.float32),
        "rarity": np.full(1, 0.4, np.float32),
        "context": 0.1 * weights["context"],
    }


def readings_of(rows: Vectors, histories: Histories, moments: Moments, surface: int = HOME) -> list[Reading]:
    """Each shopper's history as the endpoint passes it to the tower: newest first, without a session."""
    positions = log_bucket(positions_from_end(histories.indptr), POSITION_BUCKETS)
    codes = event_codes(histories.kinds.astype(np.int64), positions, age_buckets(histories, moments))
    readings = []
    for shopper in range(len(histories)):
        events = slice(histories.indptr[shopper], histories.indptr[shopper + 1])
        own = codes[events][::-1]
        readings.append(
            Reading(
                vectors=rows[histories.items[events][::-1]],
                codes=np.stack([own, np.full_like(own, ABSENT)]),
                anchors=np.zeros(len(own), np.float32),
                context=tuple(moments.codes[shopper].tolist()),
                surface=surface,
                given=None,
                text=None,
                newest=(0, 0),
            )
        )
    return readings


def users_of(fused: Fused) -> Vectors:
    """The user embeddings inside an answer of the graph."""
    return np.asarray(fused.pooled[:, 0, :DIM] + fused.base, dtype=np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(TowerKind), st.sampled_from([0, 3, 60]))
def test_user_embeddings_are_those_of_the_numpy_towers(seed: int, kind: TowerKind, longest: int) -> None:
    """Any kind, age, position and surface, unknown clocks and empty histories among them."""
    weights, rows = world(seed, kind)
    random = np.random.default_rng(seed)
    histories = random_histories(random, shoppers=7, items=ITEMS, longest=longest)
    moments = random_moments(random, 7)
    fused = UserTower(tower_graph(weights)).read(readings_of(rows, histories, moments))
    expected = encode_users(weights, rows[:, :DIM], histories, moments)
    np.testing.assert_allclose(users_of(fused), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", TowerKind)
@pytest.mark.parametrize("trained", [False, True])
def test_the_top_twenty_are_those_of_the_torch_tower(kind: TowerKind, trained: bool) -> None:
    """Over 300 shoppers the lists of 20 agree in at least 99 of 100 items; for the numpy towers as well."""
    weights, rows = world(5, kind)
    weights = trained_like(weights) if trained else weights
    random = np.random.default_rng(6)
    histories = random_histories(random, shoppers=300, items=ITEMS, longest=80)
    moments = random_moments(random, 300)
    served = users_of(UserTower(tower_graph(weights)).read(readings_of(rows, histories, moments)))
    mine = _top(served, weights, rows)
    for theirs in (
        _torch_users(weights, rows, histories, moments),
        encode_users(weights, rows[:, :DIM], histories, moments),
    ):
        shared = [len(set(a) & set(b)) for a, b in zip(mine, _top(theirs, weights, rows), strict=True)]
        assert np.mean(shared) / 20 >= 0.99


def _top(users: Vectors, weights: Weights, rows: Vectors) -> list[list[int]]:
    scores = users @ rows[:, :DIM].T + weights["prior_scale"][0] * weights["item_bias"]
    return [list(row) for row in np.argsort(-scores, axis=1)[:, :20]]


def _torch_users(weights: Weights, rows: Vectors, histories: Histories, moments: Moments) -> Vectors:
    absent = (np.full((len(histories), size), -1) for size in (TARGET_LIMIT, NEGATIVES))
    packed = torch.from_numpy(pack(Examples(histories, moments, *absent)))
    module: Any = TowerLoss(weights, rows[:, :DIM], np.zeros(ITEMS), frozenset())
    parts = torch.split(packed, SECTIONS, dim=1)[:5]
    return np.asarray(module._user(module.item_vectors, *parts).numpy(), dtype=np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 5))
def test_one_inner_product_gives_the_fused_score_of_a_surface(seed: int, surface: int) -> None:
    """affinity, session, complement, prior and text, each by the weight of the surface, as `model.fusion` defines."""
    weights, rows = world(seed, TowerKind.POOLING)
    random = np.random.default_rng(seed)
    weights["fusion"] = random.normal(size=(6, 6)).astype(np.float32)
    histories = random_histories(random, shoppers=3, items=ITEMS, longest=9)
    moments = random_moments(random, 3)
    plain = readings_of(rows, histories, moments, surface)
    text, given_vector = random.normal(size=(2, DIM)).astype(np.float32)
    readings = [
        replace(
            reading,
            codes=np.stack([reading.codes[0], reading.codes[0]]),
            anchors=np.full(len(reading.anchors), 0.5, np.float32),
            text=text,
            given=given_vector,
        )
        for reading in plain
    ]
    fused = UserTower(tower_graph(weights)).read(readings)
    v, w, prior = np.split(rows, [DIM, DIM + COMPLEMENT], axis=1)
    pooled = encode_users({**weights, "context": 0 * weights["context"]}, v, histories, moments)
    user = encode_users(weights, v, histories, moments) + given_vector
    anchors = np.stack([0.5 * r.vectors[:, DIM : DIM + COMPLEMENT].sum(axis=0) for r in plain])
    features = {"affinity": user @ v.T, "session": pooled @ v.T, "complement": anchors @ w.T}
    features |= {"prior": prior[:, 0], "text": v @ text}
    learned = fusion_weights(weights)[surface]
    expected = sum(learned[FUSION_FEATURES.index(name)] * value for name, value in features.items())
    np.testing.assert_allclose(fused.query @ rows.T, expected, rtol=1e-3, atol=1e-3)


def test_a_question_is_answered_alike_alone_and_in_a_batch() -> None:
    """Padding to the longest history of a batch changes nothing."""
    for kind in TowerKind:
        weights, rows = world(3, kind)
        random = np.random.default_rng(3)
        histories = random_histories(random, shoppers=5, items=ITEMS, longest=40)
        readings = readings_of(rows, histories, random_moments(random, 5))
        tower = UserTower(tower_graph(weights))
        together = tower.read(readings).query
        alone = np.concatenate([tower.read([reading]).query for reading in readings])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_a_version_of_old_without_complement_and_fusion_has_a_graph_too() -> None:
    """It is served with public constants, and its index rows have no complement block."""
    weights, rows = world(4, TowerKind.POOLING)
    del weights["complement"]
    rows = np.delete(rows, slice(DIM, DIM + COMPLEMENT), axis=1)
    histories = random_histories(np.random.default_rng(4), shoppers=2, items=ITEMS, longest=5)
    moments = random_moments(np.random.default_rng(4), 2)
    for surface in (HOME, DETAIL, CART):
        fused = UserTower(tower_graph(weights)).read(readings_of(rows, histories, moments, surface))
        affinity = fusion_weights(weights)[surface][0] * encode_users(
            weights, rows[:, :DIM], histories, moments
        )
        np.testing.assert_allclose(fused.query[:, :DIM], affinity, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(fused.query[:, DIM], weights["prior_scale"][0], rtol=1e-6)
