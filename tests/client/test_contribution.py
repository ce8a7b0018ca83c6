"""What one shopper can move: in every sum at most the clipping norm, whatever the shopper did."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shopper_world import (
    DAY,
    ITEMS,
    TRAINED,
    Event,
    Model,
    cohorts,
    head_of,
    histories_of_one,
    norm_of,
    one_of,
    random_shoppers,
    shoppers_of,
    without,
)

from client.contribution import HeadHistories, count_share, gradient_share, gram_share
from client.shoppers import Shoppers
from model.gradient import ITEM_VECTORS
from model.head import Head
from model.sampling import Examples

Parts = Mapping[str, NDArray[np.float64]]

clipping_norms = st.sampled_from([0.3, 1.0, 2.0])

REFUSED: list[Event] = [(0, "dismiss", 0), (1, "return", DAY)]


def counts(shoppers: Shoppers, norm: float) -> NDArray[np.float64]:
    """Counts over the whole small catalogue."""
    return count_share(shoppers, ITEMS, norm)


def gram(shoppers: Shoppers, head: Head, norm: float) -> NDArray[np.float64]:
    """The Gram triangle of a cohort in the axes of a head."""
    return gram_share(HeadHistories.of(shoppers, head, ITEMS), norm)


def gradients(shoppers: Shoppers, model: Model, norm: float, trained: frozenset[str] = TRAINED) -> Parts:
    """The clipped gradient sum of a cohort in round 1."""
    return gradient_share(model.weights, model.vectors, model.examples(shoppers), model.log_q, trained, norm)


def moved(whole: Parts, rest: Parts) -> float:
    """L2 distance of two sums."""
    return norm_of({name: whole[name] - rest[name] for name in whole})


@settings(max_examples=120, deadline=None)
@given(cohorts, clipping_norms, st.data())
def test_one_shopper_moves_the_counts_by_at_most_the_norm(
    events: list[list[Event]], norm: float, data: st.DataObject
) -> None:
    """Adding or removing any shopper of any cohort, in L2, to 1e-6."""
    shoppers = shoppers_of(events)
    leaver = data.draw(st.integers(0, len(events) - 1))
    distance = float(np.linalg.norm(counts(shoppers, norm) - counts(without(shoppers, leaver), norm)))
    assert distance <= norm * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    cohorts,
    st.integers(0, 2**32),
    clipping_norms,
    st.sampled_from([TRAINED, TRAINED | {ITEM_VECTORS}]),
    st.data(),
)
def test_one_shopper_moves_the_gradient_by_at_most_the_norm(
    events: list[list[Event]], seed: int, norm: float, trained: frozenset[str], data: st.DataObject
) -> None:
    """All trained parameters together, item vectors included or not, in L2, to 1e-12: sums are in double."""
    shoppers, model = shoppers_of(events), Model(seed)
    rest = without(shoppers, data.draw(st.integers(0, len(events) - 1)))
    distance = moved(gradients(shoppers, model, norm, trained), gradients(rest, model, norm, trained))
    assert distance <= norm * (1 + 1e-12) + 1e-12


def test_a_shopper_moves_a_large_sum_by_its_own_share_and_no_rounding_of_the_others() -> None:
    """In single precision one among these moved it by another 1e-6 of the norm, and more the more there are."""
    shoppers, model, every = random_shoppers(5, 4000), Model(5), TRAINED | {ITEM_VECTORS}
    leaver = next(
        who for who in range(40) if norm_of(gradients(one_of(shoppers, who), model, 0.1, every)) > 0.09
    )
    alone = gradients(one_of(shoppers, leaver), model, 1.0, every)
    whole, rest = (
        gradients(shoppers, model, 1.0, every),
        gradients(without(shoppers, leaver), model, 1.0, every),
    )
    assert moved({name: whole[name] - rest[name] for name in whole}, alone) < 1e-11


@given(histories_of_one, clipping_norms)
def test_a_count_share_has_exactly_the_norm_if_the_shopper_likes_something(
    events: list[Event], norm: float
) -> None:
    """Counts are unit vectors too: the share of a shopper does not tell how much it bought."""
    liked = {item for item, kind, _ in events if kind not in ("dismiss", "return")}
    share = counts(shoppers_of([events]), norm)
    assert set(np.flatnonzero(share).tolist()) == liked
    assert np.linalg.norm(share) == pytest.approx(norm if liked else 0.0, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(cohorts, st.integers(0, 2**32))
def test_a_cohort_adds_up_to_its_shoppers_one_at_a_time(events: list[list[Event]], seed: int) -> None:
    """One message per cohort or per device: the same counts and gradient, to 1e-12."""
    shoppers, model, norm = shoppers_of(events), Model(seed), 0.7
    alone = [one_of(shoppers, number) for number in range(len(events))]
    by_one = np.sum([counts(one, norm) for one in alone], axis=0)
    np.testing.assert_allclose(counts(shoppers, norm), by_one, atol=1e-12)
    every = TRAINED | {ITEM_VECTORS}
    together = gradients(shoppers, model, norm, every)
    singly = [gradients(one, model, norm, every) for one in alone]
    for name, total in together.items():
        np.testing.assert_allclose(
            total, np.sum([one[name] for one in singly], axis=0), atol=1e-12, err_msg=name
        )


def test_counts_and_gram_are_those_of_a_hand_made_cohort() -> None:
    """A buys 0 and 1, B views 1 twice, C only refuses; over three equal items q is (1, 1, 1) / sqrt(3).

    A's y is (1, 1, -2) / 3 and B's is (-1, 2, -1) / 3, both of squared length 2 / 3; shares have norm 2.
    """
    likes_two: list[Event] = [(0, "purchase", 0), (1, "view", 0), (0, "view", DAY)]
    likes_one: list[Event] = [(1, "view", 0), (1, "view", DAY), (2, "dismiss", DAY)]
    shoppers = shoppers_of([likes_two, likes_one, REFUSED])
    half = 2.0 / np.sqrt(2)
    np.testing.assert_allclose(counts(shoppers, 2.0)[:4], [half, half + 2.0, 0.0, 0.0])
    upper = gram(shoppers, head_of([0, 1, 2]), 2.0)
    off = np.sqrt(2.0)
    by_hand = np.array([1 + 1, (1 - 2) * off, (-2 + 1) * off, 1 + 4, (-2 - 2) * off, 4 + 1]) / 3
    np.testing.assert_allclose(upper, by_hand, atol=1e-12)


def test_the_order_of_the_head_is_the_order_of_the_triangle() -> None:
    """Rows and columns follow the head as it is given, not the catalogue."""
    shoppers = random_shoppers(13, 20)
    forth, back = (
        gram(shoppers, head_of([2, 5, 6], [9, 4, 1]), 1.0),
        gram(shoppers, head_of([6, 5, 2], [1, 4, 9]), 1.0),
    )
    np.testing.assert_allclose(forth, back[[5, 4, 2, 3, 1, 0]], atol=1e-12)
    assert not np.allclose(forth, back)


@pytest.mark.parametrize("events", [[], REFUSED, [(3, "purchase", 0)]])
def test_who_has_no_history_before_a_moment_is_bounded_too(events: list[Event]) -> None:
    """Nobody, a refuser and a shopper of one event: no NaN, and at most the norm."""
    parts = gradients(shoppers_of([events]), Model(2), 1e-3)
    assert all(np.isfinite(part).all() for part in parts.values())
    expected = 1e-3 if events and events is not REFUSED else 0.0
    assert norm_of(parts) == pytest.approx(expected, rel=1e-5)


def test_a_gradient_shorter_than_the_norm_leaves_as_it_is() -> None:
    """A larger norm changes nothing once nobody is clipped; clipping keeps every direction."""
    shoppers, model = shoppers_of([[(3, "purchase", 0), (4, "view", DAY)]]), Model(4)
    free, freer, clipped = (gradients(shoppers, model, norm) for norm in (1e3, 1e6, 0.01))
    assert norm_of(clipped) == pytest.approx(0.01, rel=1e-5)
    for name, part in free.items():
        np.testing.assert_array_equal(part, freer[name])
        np.testing.assert_allclose(clipped[name], part * 0.01 / norm_of(free), atol=1e-7)


def test_a_model_that_is_not_finite_gets_no_gradient() -> None:
    """A poisoned public model would give every shopper a NaN gradient, which no clipping bounds: zero leaves."""
    model = Model(5)
    model.vectors[:, 0] = np.nan
    shoppers = shoppers_of([[(3, "purchase", 0), (4, "view", DAY)]])
    assert norm_of(gradients(shoppers, model, 1.0)) == 0.0


def test_a_shopper_of_extreme_history_is_as_bounded_as_any_other() -> None:
    """Thousands of events and a model of large weights: the share is exactly the norm."""
    many = random_shoppers(8, 2, longest=5000)
    model = Model(6, scale=20.0)
    model.vectors *= 50.0
    for number in range(2):
        assert norm_of(gradients(one_of(many, number), model, 2.0)) <= 2.0 * (1 + 1e-6)


def test_nobody_adds_nothing() -> None:
    """A cohort without shoppers gives zeros of the right shapes for every stage."""
    nobody = shoppers_of([])
    assert counts(nobody, 1.0).tolist() == [0.0] * ITEMS
    assert gram(nobody, head_of([1, 4]), 1.0).tolist() == [0.0] * 3
    parts = gradients(nobody, Model(1), 1.0)
    assert parts.keys() == TRAINED and not any(part.any() for part in parts.values())
    assert isinstance(Model(1).examples(nobody), Examples)
