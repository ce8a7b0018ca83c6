"""What leaves of a cohort: each part in its place, everything on a grid, and shares of noise on every entry."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shopper_world import ITEMS, random_shoppers
from test_work import HEAD, OWN, OWN_HEAD, devices, merchant, task

from client import work
from client.cohort import Cohort, Unit
from client.contribution import triangle_of
from client.whole import triangle_places, whole
from model.spectral import symmetric
from privacy.distributed_noise import NoiseShare
from privacy.fixed_point import GRID
from privacy.plan import Trust
from proto.federation import DEVICES, EVERYONE, MERCHANT_PART, Task, WireError, layout_words

Parts = dict[str, NDArray[np.float64]]


def cohort(*units: Unit) -> Cohort:
    """A node that carries these units; its ledger and catalogue are never asked."""
    nothing: Any = None
    return Cohort(name="node 0 of 1", units=units, ledger=nothing, catalogue=nothing)


def asked(stage: str, trust: Trust = Trust.CENTRAL, *, cohort: int = 4, **lengths: int) -> Task:
    """What a coordinator asks, with the parts of the sum by length."""
    names = {name.replace("_", ":"): length for name, length in lengths.items()}
    return task(stage, trust, minimum_cohort=cohort, layout=layout_words(names))


def computed(compute: Any, question: Task, units: tuple[Unit, ...]) -> Parts:
    """The parts of the units before they are laid out."""
    return {unit.part: compute(question, unit, HEAD, ITEMS) for unit in units}


def test_a_merchant_alone_sends_its_own_part() -> None:
    """As it was computed, to the grid."""
    units = (merchant(random_shoppers(1, 20)),)
    question = asked("counts", merchant_m1=len(OWN), merchant_m2=3)
    parts = computed(work.counts, question, units)
    sent = whole(question, cohort(*units), HEAD, parts)
    assert sent.keys() == {MERCHANT_PART + "m1"}
    np.testing.assert_allclose(sent[MERCHANT_PART + "m1"], parts[MERCHANT_PART + "m1"], atol=GRID / 2)


def test_beside_devices_a_merchants_counts_are_added_at_its_items() -> None:
    """There is one part of all items then, and the merchant's own entries land where its items are."""
    units = (devices(random_shoppers(1, 20)), merchant(random_shoppers(2, 20)))
    question = asked("counts", devices=ITEMS)
    parts = computed(work.counts, question, units)
    expected = parts[DEVICES].copy()
    expected[OWN] += parts[MERCHANT_PART + "m1"]
    sent = whole(question, cohort(*units), HEAD, parts)
    assert sent.keys() == {DEVICES}
    np.testing.assert_allclose(sent[DEVICES], expected, atol=GRID)


def test_beside_devices_a_merchants_triangle_is_added_at_its_head_items() -> None:
    """Positions 1 and 3 of the head are its own; all other entries stay the devices'."""
    units = (devices(random_shoppers(1, 20)), merchant(random_shoppers(2, 20)))
    question = asked("gram", devices=10)
    parts = computed(work.gram, question, units)
    assert OWN_HEAD.items.tolist() == [2, 7] and parts[MERCHANT_PART + "m1"].shape == (3,)
    full = symmetric(parts[DEVICES])
    full[np.ix_([1, 3], [1, 3])] += symmetric(parts[MERCHANT_PART + "m1"])
    sent = whole(question, cohort(*units), HEAD, parts)
    np.testing.assert_allclose(symmetric(sent[DEVICES]), full, atol=2 * GRID)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_triangle_finds_its_place_in_a_larger_one(side: int, seed: int) -> None:
    """Entries over some positions are those of the whole matrix there."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(side, side))
    matrix += matrix.T
    own = np.flatnonzero(random.random(side) < 0.5)
    places = triangle_places(own, side)
    np.testing.assert_array_equal(triangle_of(matrix)[places], triangle_of(matrix[np.ix_(own, own)]))


def test_under_masks_zeros_stand_where_a_participant_has_nothing() -> None:
    """Otherwise the length of its answer would tell whose it is."""
    units = (merchant(random_shoppers(1, 20)),)
    question = replace(asked("counts", merchant_m1=len(OWN), merchant_m2=3), secure=True)
    sent = whole(question, cohort(*units), HEAD, computed(work.counts, question, units))
    assert list(sent) == [MERCHANT_PART + "m1", MERCHANT_PART + "m2"]
    assert sent[MERCHANT_PART + "m2"].tolist() == [0.0] * 3


@pytest.mark.parametrize("several", [False, True])
def test_noise_in_shares_lies_on_every_entry_of_everybody(several: bool) -> None:
    """Also where a participant has nothing; a node with two merchants adds two shares, in one draw."""
    shoppers = random_shoppers(1, 20)
    units = (merchant(shoppers), *((merchant(shoppers, np.array([3, 4]), "m2"),) if several else ()))
    question = asked("counts", Trust.DISTRIBUTED, merchant_m1=len(OWN), merchant_m2=2, merchant_m3=60_000)
    parts = computed(work.counts, question, units)
    sent = whole(question, cohort(*units), HEAD, parts)
    assert list(sent) == [MERCHANT_PART + name for name in ("m1", "m2", "m3")]
    std = 0.5 * 2.0 / math.sqrt(4) * math.sqrt(len(units))
    found = float(np.std(sent[MERCHANT_PART + "m3"]))
    assert found == pytest.approx(std, rel=0.02)  # seven deviations of the estimate
    assert (sent[MERCHANT_PART + "m1"] != parts[MERCHANT_PART + "m1"]).all()
    step = NoiseShare.of(question, 60_000 + len(OWN) + 2).step
    for value in sent.values():
        np.testing.assert_array_equal(np.rint(value / step) * step, value)


def test_noise_repeats_for_a_seed_and_differs_between_nodes_rounds_and_stages() -> None:
    """Equal noise of two nodes would add up to more, that of two rounds would cancel."""
    unit = merchant(random_shoppers(1, 20))
    question = asked("counts", Trust.DISTRIBUTED, merchant_m1=len(OWN))
    parts = computed(work.counts, question, (unit,))

    def noise(node: str, question: Task) -> bytes:
        return whole(question, replace(cohort(unit), name=node), HEAD, parts)[unit.part].tobytes()

    assert noise("node 0 of 2", question) == noise("node 0 of 2", question)
    others = [
        noise("node 1 of 2", question),
        noise("node 0 of 2", replace(question, round=4)),
        noise("node 0 of 2", replace(question, noise_seed=24)),
        noise("node 0 of 2", replace(question, noise_seed=-1)),
        noise("node 0 of 2", replace(question, noise_seed=-1)),
    ]
    assert len({noise("node 0 of 2", question), *others}) == 6


def test_a_layout_that_does_not_fit_is_refused() -> None:
    """A part of another length, and one that the layout has no place for, are named."""
    units = (merchant(random_shoppers(1, 20)),)
    short = asked("counts", merchant_m1=len(OWN) - 1)
    parts = computed(work.counts, short, units)
    with pytest.raises(WireError, match=r"'merchant:m1' has 4 entries here and 3 in the layout of round 3"):
        whole(short, cohort(*units), HEAD, parts)
    with pytest.raises(WireError, match="'merchant:m1' has no place"):
        whole(asked("counts", merchant_m2=4), cohort(*units), HEAD, parts)
    with pytest.raises(WireError, match="'everyone' has no place"):
        whole(asked("baskets", devices=3), cohort(*units), HEAD, {EVERYONE: np.zeros(3)})


def test_a_part_without_entries_needs_no_place() -> None:
    """A merchant without head items answers with nothing."""
    unit = merchant(random_shoppers(1, 20), np.array([4, 6]))
    question = asked("gram", merchant_m2=3)
    assert whole(question, cohort(unit), HEAD, computed(work.gram, question, (unit,))) == {}
