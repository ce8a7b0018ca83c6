"""What histories teach the surfaces: honest questions, bounded rows, and the same sum in any cut of the cohort."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shopper_world import DAY, ITEMS, Event, Model, cohorts, one_of, random_shoppers, shoppers_of, without
from test_work import devices, merchant, task

from client import work
from client.baskets import VISIT_GAP
from client.fusion import Draw, FusionModel, candidates_of, fusion_rows, fusion_share
from client.fusion_examples import Questions, questions
from client.shoppers import Shoppers
from model.fusion_learning import NUMBERS, SIDE, TAUGHT_SURFACES
from privacy.plan import Trust
from proto.federation import FUSION_START, FUSION_UNITS

BOUGHT = frozenset({"purchase"})
DRAW = Draw(seed=3, round_number=5, basket_kinds=frozenset({"purchase", "view"}), clock=True)
UNITS: NDArray[np.float64] = np.array([0.5, 0.5, 0.2, 1.0])
START: NDArray[np.float64] = np.array([[1.0, 0.2, 0.0, 0.3], [0.2, 1.0, 0.5, 0.3], [0.2, 0.5, 1.0, 0.3]])

Rows = NDArray[np.float64]


def model_of(seed: int, scale: float = 1.0) -> FusionModel:
    """A random released model with complement vectors; `scale` makes its features absurdly large or small."""
    world = Model(seed)
    complement = np.random.default_rng(seed).normal(size=(ITEMS, 2)).astype(np.float32)
    return FusionModel(
        weights={**world.weights, "complement": complement},
        vectors=world.vectors,
        probabilities=world.q,
        start=START,
        units=UNITS / scale,
    )


def public_of(seed: int) -> dict[str, NDArray[np.generic]]:
    """What the coordinator sends."""
    model = model_of(seed)
    return {
        **Model(seed).public(),
        "complement": model.weights["complement"],
        FUSION_START: START,
        FUSION_UNITS: UNITS,
    }


def asked(events: list[Event], surface: str, draw: float = 0.0, *, clock: bool = True) -> Questions:
    """The question that one shopper's history holds for a surface."""
    histories = shoppers_of([events]).histories
    return questions(histories, np.array([draw]), BOUGHT, surface=surface, clock=clock)


def busy_shoppers(seed: int, count: int) -> Shoppers:
    """Shoppers with up to 30 random events on ten days, one visit each."""
    found = random_shoppers(seed, count, longest=30)
    return replace(found, histories=replace(found.histories, times=found.histories.times // (6 * DAY) * DAY))


EVENTS: list[Event] = [
    (1, "view", 0),
    (2, "purchase", DAY),
    (3, "purchase", DAY),
    (1, "purchase", DAY),
    (2, "view", 2 * DAY),
    (4, "view", 2 * DAY + 60),
]


def test_home_asks_for_a_new_item_after_everything_before_it() -> None:
    """Never for the first moment, nor for an item that was there before; what is of one moment is not known yet."""
    for draw, item, before, session in (
        (0.0, 2, [1], []),
        (0.5, 3, [1], []),
        (0.99, 4, [1, 2, 3, 1, 2], [2]),
    ):
        found = asked(EVENTS, "home", draw)
        assert found.taken.tolist() == [item]
        assert sorted(found.histories.items.tolist()) == sorted(before)
        assert found.sessions.items.tolist() == session
        assert found.anchors[0].size == 0


def test_detail_asks_for_the_next_other_item_of_the_visit() -> None:
    """The item looked at is the session and the anchor; what came before is the history."""
    found = asked(EVENTS, "detail", 0.99)
    assert found.taken.tolist() == [4] and found.anchors[0].tolist() == [2]
    assert found.sessions.items.tolist() == [2]
    assert 4 not in found.histories.items and len(found.histories.items) == 4
    assert len(asked([(1, "view", 0), (2, "view", VISIT_GAP + 1)], "detail").taken) == 0
    assert len(asked([(1, "view", 0), (1, "purchase", 1)], "detail").taken) == 0


def test_cart_asks_for_a_new_item_of_a_basket_given_the_others() -> None:
    """An item that the shopper had before is not asked for, and lies in the cart like any other."""
    for draw, item, cart in ((0.0, 2, [1, 3]), (0.99, 3, [1, 2])):
        found = asked(EVENTS, "cart", draw)
        assert found.taken.tolist() == [item]
        assert found.anchors[0].tolist() == cart == sorted(found.sessions.items.tolist())
        assert sorted(found.histories.items.tolist()) == sorted([1, *cart])


def test_without_a_clock_only_home_is_asked() -> None:
    """Nobody knows what is one visit; a position is no time of day either."""
    events: list[Event] = [(1, "purchase", 0), (2, "purchase", 1), (3, "purchase", 2)]
    assert [len(asked(events, surface, clock=False).taken) for surface in TAUGHT_SURFACES] == [1, 0, 0]
    assert asked(events, "home", clock=False).moments.codes[0, 1:].tolist() == [-1, -1, -1]


def test_what_was_taken_later_may_be_a_negative_and_what_is_not_listed_may_not() -> None:
    """Masking a shopper's later items would tell the step what the future holds."""
    found = asked(EVENTS, "home", 0.0)
    draws = np.linspace(0.0, 0.999, 64)[None]
    drawn = set(candidates_of(found, draws, np.full(ITEMS, 1.0 / ITEMS))[0, 1:].tolist())
    assert drawn == {-1, 0, 3, 4, 5, 6, 7}


def test_the_numbers_are_the_derivatives_of_the_sampled_softmax_loss() -> None:
    """By finite differences of the log likelihood at the start, for every surface that is asked."""
    model, shoppers = model_of(2), busy_shoppers(2, 30)

    def gradients(start: NDArray[np.float64]) -> Rows:
        moved = replace(model, start=np.tile(start, (3, 1)))
        rows = fusion_rows(moved, shoppers.histories, shoppers.keys, DRAW)
        return rows.reshape(len(shoppers), 3, NUMBERS)

    start, step = np.array([0.3, 0.2, 0.1, 0.4]), 1e-5
    here = gradients(start)
    assert (np.abs(here).sum(axis=2) > 0).sum(axis=0).min() > 5
    rows, columns = np.triu_indices(SIDE)
    for feature in range(SIDE):
        ahead, behind = (gradients(start + sign * step * np.eye(SIDE)[feature]) for sign in (1, -1))
        slope = -(ahead - behind)[:, :, :SIDE] / (2 * step)
        for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
            if row == feature:
                factor = 1.0 if row == column else np.sqrt(2.0)
                entry = here[:, :, SIDE + place] / factor
                np.testing.assert_allclose(slope[:, :, column], entry, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(cohorts, st.sampled_from([0.3, 1.0, 2.0]), st.sampled_from([1.0, 1e-4, 1e4]), st.booleans(), st.data())
def test_one_shopper_moves_the_sum_by_at_most_the_norm(
    events: list[list[Event]], norm: float, scale: float, clock: bool, data: st.DataObject
) -> None:
    """Whatever the histories and however large the features, in L2 over all surfaces together."""
    shoppers, model, draw = shoppers_of(events), model_of(1, scale), replace(DRAW, clock=clock)
    rest = without(shoppers, data.draw(st.integers(0, len(events) - 1)))
    whole, less = (fusion_share(model, some.histories, some.keys, draw, norm) for some in (shoppers, rest))
    assert np.isfinite(whole).all()
    assert np.linalg.norm(whole - less) <= norm * (1 + 1e-6)


def test_a_row_longer_than_the_norm_is_cut_to_it() -> None:
    """The bound is reached: no budget is lost to slack where examples are rich."""
    shoppers = busy_shoppers(4, 1 + 4)
    lengths = [
        np.linalg.norm(fusion_share(model_of(4, 100.0), one.histories, one.keys, DRAW, 0.7))
        for one in (one_of(shoppers, number) for number in range(5))
    ]
    assert max(lengths) == pytest.approx(0.7, rel=1e-9)


def test_a_cohort_teaches_what_its_devices_would_one_by_one() -> None:
    """One message for all equals the sum of a message each, to 1e-5, more shoppers than fit a chunk among them."""
    shoppers, public = busy_shoppers(5, 60), public_of(5)
    question = task("fusion", basket_kinds="purchase,view")
    together = work.fusion(question, devices(shoppers), public, ITEMS)
    alone = [work.fusion(question, devices(one_of(shoppers, n)), public, ITEMS) for n in range(60)]
    assert together.shape == (len(TAUGHT_SURFACES) * NUMBERS,) and np.linalg.norm(together) > 1
    np.testing.assert_allclose(together, np.sum(alone, axis=0), atol=1e-5)


def test_cohorts_larger_than_a_chunk_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many shoppers are held in memory at once changes nothing."""
    shoppers, model = busy_shoppers(6, 30), model_of(6)
    whole = fusion_share(model, shoppers.histories, shoppers.keys, DRAW, 1.0)
    monkeypatch.setattr("client.fusion.CHUNK", 7)
    parts = fusion_share(model, shoppers.histories, shoppers.keys, DRAW, 1.0)
    np.testing.assert_allclose(parts, whole, atol=1e-9)


def test_a_merchant_teaches_from_its_own_items_and_local_trust_adds_noise() -> None:
    """Another answer than the same shoppers' devices give; under local trust it leaves noised."""
    shoppers, public = busy_shoppers(7, 40), public_of(7)
    question = task("fusion", basket_kinds="purchase,view")
    own = work.fusion(question, merchant(shoppers), public, ITEMS)
    assert own.any() and not np.allclose(own, work.fusion(question, devices(shoppers), public, ITEMS))
    noisy = work.fusion(replace(question, trust=str(Trust.LOCAL)), merchant(shoppers), public, ITEMS)
    assert np.std(noisy - own) == pytest.approx(2.0 * 0.5, rel=0.5)
