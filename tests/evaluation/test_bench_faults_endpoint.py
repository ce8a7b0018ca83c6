"""kill -9 of the ranking endpoint: one kill of the bench, and that each of its counts can be other than zero."""

from __future__ import annotations

import pytest

from evaluation.bench.faults_endpoint import BATCH, ENDPOINT, Stored, event_damage, kill_endpoint, names
from evaluation.bench.faults_federation import PointKills
from evaluation.bench.faults_scenarios import Damage

SENT = 3


@pytest.mark.slow
def test_an_endpoint_that_is_killed_while_it_takes_events_loses_and_doubles_none() -> None:
    """It is started again, answers with the promoted version, and holds each event once."""
    (found,) = kill_endpoint(1, ["taking events"])
    assert found == PointKills(
        victim=ENDPOINT, point="taking events", wanted=1, killed=1, recovered=1, damage=Damage()
    )


def test_an_event_that_is_gone_or_there_twice_is_counted() -> None:
    """What was acknowledged must be there at once, everything after it was sent again."""
    full = Stored(one for number in range(SENT) for one in names(number))
    acknowledged = Stored(names(0))
    assert event_damage(full, full, {0, 1}, SENT) == Damage()
    assert event_damage(acknowledged, full, {0}, SENT) == Damage()
    assert event_damage(acknowledged, full, {0, 1}, SENT) == Damage(lost=BATCH)
    assert event_damage(full, acknowledged + Stored(names(1)), {0}, SENT) == Damage(lost=BATCH)
    assert event_damage(full, full + Stored(names(2)[:2]), {0}, SENT) == Damage(doubled=2)
