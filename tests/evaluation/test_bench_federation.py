"""The costs of secure aggregation as rows: what is measured adds up, and a wrong sum would show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluation.bench.secure_aggregation import COORDINATOR, Cost, Size, measure, plain_seconds, rows_of
from evaluation.bench.secure_world import World

SMALL = Size(participants=5, parameters=3_000, leaving=1)


@pytest.fixture(scope="module")
def costs() -> tuple[Cost, Cost]:
    """A round of five with nobody and with one of them leaving."""
    world = World.make(SMALL.participants)
    return measure(world, SMALL, 0), measure(world, SMALL, SMALL.leaving)


def test_a_measured_round_is_exact_and_counts_every_party(costs: tuple[Cost, Cost]) -> None:
    """Five participants and the coordinator; who leaves sends no contribution."""
    whole, torn = costs
    assert (whole.wrong, torn.wrong) == (0, 0)
    assert len(whole.seconds) == 6
    assert whole.work > whole.coordinator > 0
    assert whole.participant == max(value for name, value in whole.seconds.items() if name != COORDINATOR)
    assert min(whole.traffic.values()) > 4 * SMALL.parameters > min(torn.traffic.values())


def test_rows_hold_costs_against_their_targets(costs: tuple[Cost, Cost]) -> None:
    """A wrong entry, too much traffic or too slow a participant misses its target."""
    whole, torn = costs
    plain = plain_seconds(SMALL)
    met = {row.measure: row.met for row in rows_of(SMALL, [whole], [torn], plain)}
    assert all(value for measure, value in met.items() if "wrong" in measure or "traffic" in measure)
    slow = replace(whole, seconds={**whole.seconds, "shop-000": 3.0}, wrong=1)
    missed = [row.measure for row in rows_of(SMALL, [slow], [torn], plain) if row.met is False]
    assert any("wrong entries" in measure for measure in missed)
    assert any("processor time of a participant" in measure for measure in missed)
