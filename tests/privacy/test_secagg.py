"""A round of secure aggregation without mischief: the sum is exact, whoever leaves, and messages survive the wire."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.bench.secure_world import World, one_hot, whole_round
from privacy.errors import CohortLost


@pytest.fixture(scope="module")
def world() -> World:
    """Seven shops."""
    return World.make(7)


def test_the_sum_is_exact_and_holds_everybody_once(world: World) -> None:
    """One-hot contributions add up to ones."""
    manifest = world.manifest(7)
    total, aggregation = whole_round(world, manifest, one_hot(manifest.cohort, 7))
    assert total.tolist() == [1] * 7
    assert aggregation.survivors == manifest.cohort


@pytest.mark.parametrize("phase", range(5))
def test_two_of_seven_may_leave_at_any_phase(world: World, phase: int) -> None:
    """Before contributing they are not in the sum; afterwards they are."""
    manifest = world.manifest(7)
    total, _ = whole_round(
        world, manifest, one_hot(manifest.cohort, 7), {"shop-001": phase, "shop-004": phase}
    )
    expected = np.ones(7)
    expected[[1, 4]] = phase > 2
    assert total.tolist() == expected.tolist()


@pytest.mark.parametrize("phase", range(5))
def test_a_round_that_three_of_seven_leave_releases_nothing(world: World, phase: int) -> None:
    """Four are below two thirds."""
    manifest = world.manifest(7)
    leaving = dict.fromkeys(("shop-000", "shop-002", "shop-006"), phase)
    with pytest.raises(CohortLost, match="releases nothing"):
        whole_round(world, manifest, one_hot(manifest.cohort, 7), leaving)
