"""The two towers in numpy: equal to their formulas written down shopper by shopper."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tower_world import histories_of, random_histories, random_moments, random_vectors, random_weights

from model.attention import BLOCK, SHARPNESS, attention_weights
from model.features import AGE_BUCKETS, DAY, KINDS, POSITION_BUCKETS, Context, moments
from model.schema import UserTower, Weights
from model.two_tower import (
    age_buckets,
    context_vectors,
    encode_items,
    encode_users,
    event_weights,
    pooling,
    score,
)

ITEMS, DIM = 15, 4
FLAT = np.ones((ITEMS, DIM), dtype=np.float32)


def slow_user(
    weights: Weights,
    vectors: NDArray[np.float32],
    events: list[tuple[int, int, int]],
    now: int,
    codes: list[int],
) -> NDArray[np.float64]:
    """One user vector from the formula in the module's docstring."""
    total, pooled = 0.0, np.zeros(vectors.shape[1])
    for newer, (item, kind, time) in enumerate(reversed(events)):
        position = min(int(np.log2(newer + 1)), POSITION_BUCKETS - 1)
        logit = float(weights["kind_weight"][kind] + weights["position_weight"][position])
        if now >= 0:
            days = (now - time) // DAY
            logit += float(weights["age_weight"][min(int(np.log2(days + 1)), AGE_BUCKETS - 1)])
        logit -= float(weights["rarity"][0] * weights["item_bias"][item])
        if "attention" in weights:
            query, key = vectors[events[-1][0]].astype(np.float64), vectors[item].astype(np.float64)
            likeness = query * key / np.linalg.norm(query) / np.linalg.norm(key)
            logit += SHARPNESS * float(weights["attention"] @ likeness)
        total += np.exp(logit)
        pooled += np.exp(logit) * vectors[item]
    context = sum((weights["context"][code] for code in codes if code >= 0), np.zeros(vectors.shape[1]))
    return np.asarray(weights["gain"] * pooled / np.sqrt(total or 1.0) + context, dtype=np.float64)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.sampled_from([0, 1, 20]), st.sampled_from(UserTower))
def test_user_vectors_are_what_the_formula_says(
    seed: int, shoppers: int, longest: int, tower: UserTower
) -> None:
    """Any cohort, with empty histories, repeated items and unknown clocks, agrees with the slow formula."""
    random = np.random.default_rng(seed)
    weights = random_weights(random, items=ITEMS, dim=DIM, user_tower=tower)
    vectors = random_vectors(random, items=ITEMS, dim=DIM)
    histories = random_histories(random, shoppers=shoppers, items=ITEMS, longest=longest)
    looks = random_moments(random, shoppers)
    users = encode_users(weights, vectors, histories, looks)
    assert users.dtype == np.float32 and users.shape == (shoppers, DIM)
    for shopper in range(shoppers):
        own = histories.select(np.array([shopper]))
        events = list(zip(own.items.tolist(), own.kinds.tolist(), own.times.tolist(), strict=True))
        codes = looks.codes[shopper].tolist()
        expected = slow_user(weights, vectors, events, int(looks.times[shopper]), codes)
        np.testing.assert_allclose(users[shopper], expected, rtol=1e-4, atol=1e-5)


def test_an_empty_history_leaves_the_context_alone() -> None:
    """A shopper who has done nothing yet is where and when it looks, and nothing else."""
    random = np.random.default_rng(1)
    weights = random_weights(random, items=ITEMS, dim=DIM)
    vectors = random_vectors(random, items=ITEMS, dim=DIM)
    looks = moments([Context(surface="cart"), Context(timestamp=90_000)])
    users = encode_users(weights, vectors, histories_of([], []), looks)
    np.testing.assert_allclose(users, context_vectors(weights, looks))
    np.testing.assert_allclose(users[0], weights["context"][3])
    expected = weights["context"][[0, 6 + 1, 6 + 24 + 4, 6 + 24 + 7]].sum(axis=0)  # home, 1 h, Friday, winter
    np.testing.assert_allclose(users[1], expected, rtol=1e-6)


def test_a_repeated_event_counts_less_than_twice() -> None:
    """The pooling divides by the root of the total weight: n equal events have length sqrt(n), not n."""
    weights = random_weights(np.random.default_rng(1), items=ITEMS, dim=DIM, scale=0.0)
    weights["gain"][:] = 1.0
    vectors = np.eye(ITEMS, DIM, dtype=np.float32)
    history = [(2, "view", 5)]
    users = encode_users(weights, vectors, histories_of(history, history * 4), moments([Context()] * 2))
    np.testing.assert_allclose(users, [[0, 0, 1, 0], [0, 0, 2, 0]], rtol=1e-6)


def test_kinds_positions_ages_and_rarity_each_have_a_weight() -> None:
    """The weight of an event is the exponential of the sum of its weights; unknown clocks drop the age."""
    weights = random_weights(np.random.default_rng(3), items=ITEMS, dim=DIM)
    history = histories_of([(1, "purchase", 0), (2, "view", 6 * DAY)])
    kind, position, age = (weights[name] for name in ("kind_weight", "position_weight", "age_weight"))
    older, newer = KINDS.index("purchase"), KINDS.index("view")
    known = moments([Context(timestamp=8 * DAY)])
    assert age_buckets(history, known).tolist() == [3, 1]
    rare = -weights["rarity"][0] * weights["item_bias"][[1, 2]]
    expected = rare + np.array([kind[older] + position[1] + age[3], kind[newer] + position[0] + age[1]])
    np.testing.assert_allclose(event_weights(weights, FLAT, history, known), np.exp(expected), rtol=1e-5)
    unknown = moments([Context()])
    assert age_buckets(history, unknown).tolist() == [-1, -1]
    expected = rare + np.array([kind[older] + position[1], kind[newer] + position[0]])
    np.testing.assert_allclose(event_weights(weights, FLAT, history, unknown), np.exp(expected), rtol=1e-5)


def test_extreme_weights_stay_finite() -> None:
    """Weights far outside what training gives are cut at e^10 instead of overflowing."""
    weights = random_weights(np.random.default_rng(3), items=ITEMS, dim=DIM)
    weights["kind_weight"][:] = [1e4, -1e4, 0, 0, 0, 0, 0]
    weights["rarity"][:] = 0.0
    history = histories_of([(1, "view", 0)], [(1, "add_to_cart", 0)])
    found = event_weights(weights, FLAT, history, moments([Context()] * 2))
    np.testing.assert_allclose(found, np.exp([10.0, -10.0]), rtol=1e-5)


def test_attention_without_weight_is_pooling_and_with_weight_prefers_what_resembles_the_newest_event() -> (
    None
):
    """At the start both towers are one; a positive weight turns the user towards the newest event's likes."""
    weights = random_weights(np.random.default_rng(1), items=3, dim=2, scale=0.0)
    weights["gain"][:] = 1.0
    vectors = np.array([[1, 0], [0, 1], [2, 0]], dtype=np.float32)
    history = histories_of([(0, "view", 1), (1, "view", 2), (2, "view", 3)])
    pooled = encode_users(weights, vectors, history, moments([Context()]))
    weights["attention"] = np.zeros(2, dtype=np.float32)
    np.testing.assert_array_equal(encode_users(weights, vectors, history, moments([Context()])), pooled)
    weights["attention"][:] = 1.0 / SHARPNESS
    found = event_weights(weights, vectors, history, moments([Context()]))
    np.testing.assert_allclose(found, np.exp([1.0, 0.0, 1.0]), rtol=1e-5)


def test_attention_over_more_events_than_a_block_is_the_same_event_by_event() -> None:
    """Blocks bound the memory; where one ends makes no difference."""
    random = np.random.default_rng(8)
    weights = random_weights(random, items=ITEMS, dim=DIM, user_tower=UserTower.ATTENTION)
    vectors = random_vectors(random, items=ITEMS, dim=DIM)
    history = random_histories(random, shoppers=BLOCK // 40, items=ITEMS, longest=100)
    found = attention_weights(weights, vectors, history)
    assert len(found) > BLOCK
    last = history.select(np.array([len(history) - 1]))
    np.testing.assert_allclose(
        found[-len(last.items) :], attention_weights(weights, vectors, last), rtol=1e-5
    )


def test_the_pooling_matrix_covers_the_whole_catalogue() -> None:
    """Shape (shoppers, items) even where the last items were never touched and for a cohort of nobody."""
    weights = random_weights(np.random.default_rng(3), items=ITEMS, dim=DIM)
    assert pooling(weights, FLAT, histories_of([(0, "view", 1)], []), moments([Context()] * 2)).shape == (
        2,
        ITEMS,
    )
    nobody = histories_of([]).select(np.zeros(0, dtype=np.int64))
    assert pooling(weights, FLAT[:9], nobody, moments([])).shape == (0, 9)


def test_an_item_is_its_id_embedding_plus_its_content() -> None:
    """A new item without ID embedding lives on its content alone."""
    random = np.random.default_rng(4)
    weights = random_weights(random, items=3, dim=DIM)
    weights["item_id"][2] = 0.0
    features = sp.csr_matrix(np.array([[1, 0, 0], [0, 0.5, 0], [0, 0, 2]], dtype=np.float32))
    expected = weights["item_id"] + features.toarray() @ weights["content"]
    vectors = encode_items(weights, features)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    np.testing.assert_allclose(vectors[2], 2 * weights["content"][2], rtol=1e-6)


def test_the_score_is_affinity_plus_the_scaled_prior() -> None:
    """The prior ranks alone where the user vector is zero, and not at all where its scale is zero."""
    random = np.random.default_rng(5)
    weights = random_weights(random, items=ITEMS, dim=DIM)
    vectors, users = random_vectors(random, items=ITEMS, dim=DIM), random_vectors(random, items=3, dim=DIM)
    prior = weights["prior_scale"][0] * weights["item_bias"]
    np.testing.assert_allclose(
        score(weights, users, vectors), users @ vectors.T + prior, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(score(weights, 0 * users, vectors), np.tile(prior, (3, 1)), rtol=1e-6)


@pytest.mark.parametrize("longest", [0, 12])
def test_a_shopper_alone_gets_the_vector_it_gets_in_a_cohort(longest: int) -> None:
    """The ranking endpoint encodes one shopper, training a cohort; both see the same vector."""
    random = np.random.default_rng(6)
    weights = random_weights(random, items=ITEMS, dim=DIM, user_tower=UserTower.ATTENTION)
    vectors = random_vectors(random, items=ITEMS, dim=DIM)
    histories = random_histories(random, shoppers=7, items=ITEMS, longest=longest)
    looks = random_moments(random, 7)
    together = encode_users(weights, vectors, histories, looks)
    for shopper in range(7):
        row = np.array([shopper])
        alone = encode_users(
            weights, vectors, histories.select(row), type(looks)(looks.times[row], looks.codes[row])
        )
        np.testing.assert_allclose(alone[0], together[shopper], rtol=1e-5, atol=1e-6)
