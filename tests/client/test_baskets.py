"""What is taken together: which events make a basket, and what one shopper can move in their moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shopper_world import (
    DAY,
    ITEMS,
    Event,
    cohorts,
    one_of,
    random_shoppers,
    shoppers_of,
    without,
)
from test_work import devices, merchant, task

from client import work
from client.baskets import VISIT_GAP, Baskets, basket_share, visits_of
from client.shoppers import Shoppers
from privacy.plan import Trust
from proto.federation import AXES, WireError
from server.coordination.blocks import gram_of

BOUGHT = frozenset({"purchase"})
KINDS = "purchase,add_to_cart,view"
AXES_OF_ALL: NDArray[np.float32] = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)

clipping_norms = st.sampled_from([0.3, 1.0, 2.0])
kinds_of_axes = st.sampled_from(["random", "whole", "short", "long", "repeated", "none"])
seeds = st.integers(0, 2**32)


def axes_of(kind: str, seed: int) -> NDArray[np.float32]:
    """Axes of all items: plain ones, or such that no honest coordinator would send."""
    axes = np.random.default_rng(seed).normal(size=(ITEMS, 4))
    if kind == "whole":
        axes = np.eye(ITEMS)
    elif kind == "repeated":
        axes = np.repeat(axes[:, :1], 3, axis=1)
    scale = {"short": 1e-6, "long": 1e6, "none": 0.0}.get(kind, 1.0)
    return np.asarray(scale * axes, dtype=np.float32)


def baskets_of(shoppers: Shoppers, kinds: frozenset[str] = frozenset(KINDS.split(","))) -> Baskets:
    """The baskets of a cohort over the whole catalogue."""
    return Baskets.of(shoppers.histories, kinds, ITEMS)


def busy_shoppers(seed: int, count: int) -> Shoppers:
    """Shoppers with up to 30 random events on ten days, one visit each."""
    found = random_shoppers(seed, count, longest=30)
    return replace(found, histories=replace(found.histories, times=found.histories.times // (6 * DAY) * DAY))


def share(shoppers: Shoppers, axes: NDArray[np.float32], norm: float) -> NDArray[np.float64]:
    """What a cohort adds to the sum."""
    return basket_share(baskets_of(shoppers), axes, norm)


def sets_of(baskets: Baskets) -> list[list[set[int]]]:
    """The baskets of each shopper as sets of items."""
    rows = [set(row.indices.tolist()) for row in baskets.taken]
    return [rows[first:last] for first, last in zip(baskets.indptr[:-1], baskets.indptr[1:], strict=True)]


def test_a_basket_is_what_was_bought_in_one_visit() -> None:
    """Half an hour without an event ends it; other kinds keep a visit open; a lone item is no basket."""
    gap = VISIT_GAP
    one: list[Event] = [
        (1, "purchase", 0),
        (2, "purchase", gap),
        (5, "view", 2 * gap),
        (1, "purchase", 2 * gap),
        (3, "purchase", 3 * gap),
        (4, "purchase", 4 * gap + 1),
        (6, "purchase", 9 * gap),
        (7, "purchase", 9 * gap),
    ]
    other: list[Event] = [(0, "purchase", 9 * gap), (3, "purchase", 9 * gap)]
    found = Baskets.of(shoppers_of([[], one, other, [(1, "view", 0)]]).histories, BOUGHT, ITEMS)
    assert sets_of(found) == [[], [{1, 2, 3}, {6, 7}], [{0, 3}], []]
    assert found.taken.max() == 1.0


def test_with_a_clock_of_days_a_visit_is_a_day() -> None:
    """All of a day has one time, and the next day is further than any pause."""
    events: list[Event] = [(1, "purchase", DAY), (2, "purchase", DAY), (3, "purchase", 2 * DAY)]
    histories = shoppers_of([events, [(4, "view", 2 * DAY)]]).histories
    assert visits_of(histories).tolist() == [0, 0, 1, 2]


def test_shoppers_without_events_have_no_baskets() -> None:
    """Nobody, nothing, and kinds that nobody asks for."""
    nobody = shoppers_of([[], []])
    assert sets_of(baskets_of(nobody)) == [[], []]
    assert sets_of(baskets_of(random_shoppers(1, 9), frozenset())) == [[]] * 9
    assert not share(nobody, AXES_OF_ALL, 1.0).any()


@settings(max_examples=150, deadline=None)
@given(cohorts, clipping_norms, kinds_of_axes, seeds, st.data())
def test_one_shopper_moves_the_moment_of_baskets_by_at_most_the_norm(
    events: list[list[Event]], norm: float, kind: str, seed: int, data: st.DataObject
) -> None:
    """Any cohort and any axes, in L2 over the triangle that leaves, to 1e-6."""
    shoppers, axes = shoppers_of(events), axes_of(kind, seed)
    rest = without(shoppers, data.draw(st.integers(0, len(events) - 1)))
    moved = np.linalg.norm(share(shoppers, axes, norm) - share(rest, axes, norm))
    assert moved <= norm * (1 + 1e-6)


@settings(max_examples=150, deadline=None)
@given(cohorts, clipping_norms)
def test_a_share_has_exactly_the_norm_where_anything_was_taken_together(
    events: list[list[Event]], norm: float
) -> None:
    """In all axes a basket of two is enough, however many events there are: no budget is lost to slack."""
    shoppers = shoppers_of(events)
    for number, sets in enumerate(sets_of(baskets_of(shoppers))):
        length = np.linalg.norm(share(one_of(shoppers, number), axes_of("whole", 0), norm))
        assert length == pytest.approx(norm if sets else 0.0, rel=1e-9)


def test_the_moment_is_that_of_the_definition() -> None:
    """By hand: per shopper the sum of x x^T / |x|^2 without its diagonal, read in the axes, of norm C."""
    shoppers = busy_shoppers(3, 60)
    expected = np.zeros((3, 3))
    for sets in sets_of(baskets_of(shoppers)):
        moment = np.zeros((ITEMS, ITEMS))
        for basket in sets:
            x = np.isin(np.arange(ITEMS), list(basket)).astype(float)
            moment += (np.outer(x, x) - np.diag(x)) / x.sum()
        read = AXES_OF_ALL.T.astype(float) @ moment @ AXES_OF_ALL.astype(float)
        expected += 1.5 * read / (np.linalg.norm(read) or 1.0)
    assert np.linalg.norm(expected) > 1.0
    np.testing.assert_allclose(gram_of(share(shoppers, AXES_OF_ALL, 1.5)), expected, atol=1e-9)


def test_a_cohort_answers_about_baskets_what_its_devices_would_one_by_one() -> None:
    """One message for all equals the sum of a message each, to 1e-5."""
    shoppers, public = busy_shoppers(5, 40), {AXES: AXES_OF_ALL}
    asked = task("baskets", basket_kinds=KINDS)
    alone = [work.baskets(asked, devices(one_of(shoppers, n)), public, ITEMS) for n in range(40)]
    together = work.baskets(asked, devices(shoppers), public, ITEMS)
    assert np.linalg.norm(together) > 0.5
    np.testing.assert_allclose(together, np.sum(alone, axis=0), atol=1e-5)


def test_a_merchant_answers_with_baskets_of_its_own_items_in_shared_axes() -> None:
    """Items of others are not there for it, in a basket or among the axes."""
    shoppers, own = busy_shoppers(6, 40), np.array([1, 2, 5, 7])
    asked = task("baskets", basket_kinds=KINDS)
    histories = shoppers.histories.keep(np.isin(shoppers.histories.items, own))
    expected = share(replace(shoppers, histories=histories), AXES_OF_ALL, 0.5)
    found = work.baskets(asked, merchant(shoppers, own), {AXES: AXES_OF_ALL}, ITEMS)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.any()


@pytest.mark.parametrize("participants", [1, 30])
def test_under_local_trust_baskets_leave_under_the_noise_of_every_participant(participants: int) -> None:
    """Each of n participants adds z C to each entry; under the other trust models the bounded sum leaves."""
    unit = replace(devices(busy_shoppers(7, 30)), participants=participants)
    public = {AXES: np.random.default_rng(0).normal(size=(ITEMS, 60)).astype(np.float32)}
    plain, noisy = (
        work.baskets(task("baskets", trust, basket_kinds=KINDS), unit, public, ITEMS)
        for trust in (Trust.CENTRAL, Trust.LOCAL)
    )
    deviation = np.std(noisy - plain) / (2.0 * 0.5 * np.sqrt(participants))
    assert deviation == pytest.approx(1.0, abs=5 / np.sqrt(2 * len(plain)))


def test_a_kind_of_basket_that_nobody_knows_is_refused_by_name() -> None:
    """Before anything is charged; no kind at all is no basket."""
    assert work.basket_kinds_of(task()) == frozenset()
    assert work.basket_kinds_of(task(basket_kinds=KINDS)) == frozenset(KINDS.split(","))
    with pytest.raises(WireError, match=r"'gift'.*update it"):
        work.basket_kinds_of(task(basket_kinds="purchase,gift"))
