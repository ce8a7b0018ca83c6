"""Random operations on one mock clock: every released sum is exact, nobody counts twice, no round is stuck."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from evaluation.bench.secure_aggregation_faults import schedule_rows, schedules
from evaluation.bench.secure_schedules import Found, Schedule
from evaluation.bench.secure_world import World
from privacy.secagg.coordinator import Aggregation
from privacy.secagg.messages import Message

NUMBERS = st.integers(0, 10_000)


@lru_cache
def world_of(size: int) -> World:
    """Certificates are issued once."""
    return World.make(size)


class Rounds(RuleBasedStateMachine):
    """Two rounds of three to five shops on a network that hypothesis drives."""

    schedule: Schedule

    @initialize(size=st.integers(3, 5))
    def begin(self, size: int) -> None:
        """Invite everybody."""
        self.schedule = Schedule(world_of(size), rounds=2)

    @rule(count=st.integers(1, 40))
    def deliver_in_order(self, count: int) -> None:
        """Letters arrive as they were sent."""
        for _ in range(count):
            self.schedule.deliver(0)

    @rule(number=NUMBERS)
    def deliver_out_of_order(self, number: int) -> None:
        """One overtakes the others."""
        self.schedule.deliver(number)

    @rule(number=NUMBERS)
    def repeat(self, number: int) -> None:
        """One arrives twice."""
        self.schedule.repeat(number)

    @rule(number=NUMBERS)
    def lose(self, number: int) -> None:
        """One is lost."""
        self.schedule.lose(number)

    @rule(number=NUMBERS, relabelled=st.booleans())
    def replay(self, number: int, relabelled: bool) -> None:
        """One of long ago comes again."""
        self.schedule.replay(number, relabelled=relabelled)

    @rule(number=NUMBERS)
    def kill(self, number: int) -> None:
        """A participant's process dies."""
        self.schedule.kill(number)

    @rule(count=st.integers(1, 8))
    def tick(self, count: int) -> None:
        """Time passes, perhaps beyond a deadline, so that what is on its way is late."""
        for _ in range(count):
            self.schedule.tick()

    @invariant()
    def every_sum_is_exact(self) -> None:
        """One-hot contributions show at once what was lost or counted twice."""
        found = self.schedule.found
        assert (found.inexact, found.doubled) == (0, 0)

    def teardown(self) -> None:
        """Once the network works again both rounds end, with a sum or without."""
        if hasattr(self, "schedule"):
            found = self.schedule.recover()
            assert found == Found(released=found.released, voided=2 - found.released)


TestRounds = Rounds.TestCase
TestRounds.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_random_schedules_release_exact_sums_or_nothing() -> None:
    """A sample of the long run: some rounds are released, some given up, none is wrong."""
    found = schedules(90)
    assert found.released > 10
    assert found.voided > 10
    assert (found.inexact, found.doubled, found.stuck) == (0, 0, 0)
    assert [row.met for row in schedule_rows(90, found)[:3]] == [True, True, True]


def everything_twice() -> Found:
    """Run one round in which every letter arrives twice."""
    schedule = Schedule(world_of(3), rounds=1)
    while not schedule.over:
        while schedule.letters:
            schedule.repeat(0)
            schedule.deliver(0)
        schedule.tick()
    return schedule.found


def test_a_coordinator_that_counts_repeated_answers_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of one-hot contributions shows a second copy; the real coordinator takes one."""
    assert everything_twice() == Found(released=1)
    accept = Aggregation.accept

    def careless(self: Aggregation, name: str, message: Message) -> None:
        self._answers.pop(name, None)
        accept(self, name, message)

    monkeypatch.setattr(Aggregation, "accept", careless)
    found = everything_twice()
    assert (found.released, found.inexact) == (1, 1)
