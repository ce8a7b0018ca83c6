"""Rounds of secure aggregation on a network that loses, repeats, reorders and replays, and nodes that die.

All time is one mock clock. Every contribution is one-hot, at a place of its own for each participant and round. So a
released sum must be 1 where a survivor stands and 0 elsewhere: a 2 was counted twice, a huge value is a mask that did
not cancel. (After the transparency tests of Divvi Up's janus.)
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluation.bench.secure_world import World, answers_of
from privacy.errors import CohortLost, SecureAggregationError
from privacy.secagg.coordinator import Aggregation, Phase
from privacy.secagg.manifest import Unsigned
from privacy.secagg.messages import (
    Advertisement,
    Confirmation,
    Confirmations,
    Delivery,
    Invitation,
    Masked,
    Message,
    Roster,
    Shares,
    Survivors,
    Unmasking,
)

QUESTIONS: Final = (Invitation, Roster, Delivery, Survivors, Confirmations)
ANSWERS: Final = (Advertisement, Shares, Masked, Confirmation, Unmasking)
DEADLINE: Final = 6
"""Ticks of the clock after which a phase is closed."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message on its way, as the record that travels; `name` is the participant at one of its ends."""

    release: str
    name: str
    kind: type[Message]
    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What schedules came to; `inexact`, `doubled` and `stuck` must be zero.

    Attributes:
        released, voided: rounds that gave a sum, and that were given up.
        inexact: sums that differ from those of their survivors' contributions.
        doubled: sums in which a contribution was counted more than once.
        stuck: rounds that were not over two deadlines a phase after the network had recovered.
    """

    released: int = 0
    voided: int = 0
    inexact: int = 0
    doubled: int = 0
    stuck: int = 0

    def __add__(self, other: Found) -> Found:
        """Add up counts."""
        return Found(**{name: value + getattr(other, name) for name, value in vars(self).items()})


class Schedule:
    """A few rounds, one after the other, driven by single operations in any order.

    Attributes:
        letters: on their way, in the order in which they were sent.
        history: every letter that was ever sent.
    """

    def __init__(self, world: World, rounds: int) -> None:
        """Begin the first round."""
        self.letters: list[Letter] = []
        self.history: list[Letter] = []
        self.found = Found()
        self._world, self._rounds = world, rounds
        self._names = tuple(sorted(world.members))
        self._answered: dict[str, set[str]] = {name: set() for name in self._names}
        self._nodes: dict[str, dict[str, list[Any]]] = {name: {} for name in self._names}
        self._clock = self._round = self._due = 0
        self._aggregation: Aggregation
        self._begin()

    @property
    def over(self) -> bool:
        """Whether the last round has ended."""
        return self._round > self._rounds

    def deliver(self, number: int) -> None:
        """A letter arrives, out of order if `number` is not 0."""
        if self.letters:
            self._arrive(self.letters.pop(number % len(self.letters)))

    def repeat(self, number: int) -> None:
        """A letter arrives and is still on its way."""
        if self.letters:
            self._arrive(self.letters[number % len(self.letters)])

    def lose(self, number: int) -> None:
        """A letter never arrives."""
        if self.letters:
            del self.letters[number % len(self.letters)]

    def replay(self, number: int, *, relabelled: bool) -> None:
        """Some letter of the past arrives again, perhaps under the name of the running round."""
        letter = self.history[number % len(self.history)]
        release = self._release if relabelled else letter.release
        self._arrive(Letter(release=release, name=letter.name, kind=letter.kind, record=letter.record))

    def kill(self, number: int) -> None:
        """A participant's process dies and starts anew: it remembers only what it has been charged for."""
        self._nodes[self._names[number % len(self._names)]] = {}

    def tick(self) -> None:
        """Time passes; a phase ends at its deadline, or when nobody is awaited."""
        self._clock += 1
        if not self.over and (self._clock >= self._due or not self._aggregation.awaited):
            self._close()

    def recover(self) -> Found:
        """Let the network work again until all is over; return what came of the rounds."""
        for _ in range(2 * DEADLINE * len(QUESTIONS) * self._rounds):
            while self.letters:
                self.deliver(0)
            self.tick()
        return self.found if self.over else self.found + Found(stuck=1)

    @property
    def _release(self) -> str:
        return f"release-{min(self._round, self._rounds)}"

    def _begin(self) -> None:
        self._round += 1
        if not self.over:
            size = len(self._names) * self._rounds
            manifest = self._world.manifest(size, release_id=self._release, round=self._round)
            self._aggregation = self._world.aggregation(manifest)
            self._send(self._aggregation.begin())

    def _send(self, questions: Mapping[str, Message]) -> None:
        self._due = self._clock + DEADLINE
        for name, question in questions.items():
            self._post(self._release, name, question)

    def _post(self, release: str, name: str, message: Message) -> None:
        letter = Letter(release=release, name=name, kind=type(message), record=message.to_record())
        self.letters.append(letter)
        self.history.append(letter)

    def _arrive(self, letter: Letter) -> None:
        try:
            if letter.kind in QUESTIONS:
                self._answer(letter)
            elif letter.release == self._release and not self.over:
                self._aggregation.accept(letter.name, letter.kind.from_record(letter.record))
        except SecureAggregationError:
            return

    def _answer(self, letter: Letter) -> None:
        """Have a participant answer; the first question of a release wakes it."""
        rounds, name = self._nodes[letter.name], letter.name
        if letter.kind is Invitation and letter.release not in rounds:
            rounds[letter.release] = self._woken(name, letter.release)
        if letter.release in rounds:
            phase = QUESTIONS.index(letter.kind)
            answer = rounds[letter.release][phase](letter.kind.from_record(letter.record))
            self._post(letter.release, name, answer)

    def _woken(self, name: str, release: str) -> list[Any]:
        """Return the answers of a participant that remembers a release before it contributes."""
        participant = self._world.participant(name, self._answered[name])
        answers: list[Any] = list(answers_of(participant, self._contribution(name, release)))

        def contribute(delivery: Delivery) -> Masked:
            participant.receive(delivery)
            self._answered[name].add(release)
            return participant.contribute(self._contribution(name, release))

        answers[2] = contribute
        return answers

    def _contribution(self, name: str, release: str) -> Unsigned:
        values = np.zeros(len(self._names) * self._rounds, dtype="<u4")
        values[self._place(name, int(release.rpartition("-")[2]))] = 1
        return values

    def _place(self, name: str, number: int) -> int:
        return (number - 1) * len(self._names) + self._names.index(name)

    def _close(self) -> None:
        try:
            if self._aggregation.phase is not Phase.UNMASK:
                self._send(self._aggregation.close())
                return
            self._judge(self._aggregation.finish())
        except CohortLost:
            self.found += Found(voided=1)
        self._begin()

    def _judge(self, total: Unsigned) -> None:
        expected = np.zeros_like(total)
        expected[[self._place(name, self._round) for name in self._aggregation.survivors]] = 1
        inexact = not np.array_equal(total, expected)
        doubled = bool(((total > 1) & (total <= len(self._names))).any())
        self.found += Found(released=1, inexact=inexact, doubled=doubled)


def random_schedule(world: World, rng: random.Random) -> Found:
    """Run one or two rounds under one random list of operations; how bad the network is, is random too."""
    schedule = Schedule(world, rounds=rng.choice((1, 1, 2)))
    bad = rng.choice((0.02, 0.1, 0.3))
    for _ in range(rng.randrange(20, 160)):
        if rng.random() < bad:
            operation = rng.choice(("lose", "kill", "repeat", "replay", "replay relabelled"))
        else:
            operation = rng.choices(("deliver", "tick"), (9, 1))[0]
        _operate(schedule, operation, rng.randrange(1 << 16) if rng.random() < 0.5 else 0)
    return schedule.recover()


def _operate(schedule: Schedule, operation: str, number: int) -> None:
    match operation:
        case "tick":
            schedule.tick()
        case "replay" | "replay relabelled":
            schedule.replay(number, relabelled=operation != "replay")
        case _:
            getattr(schedule, operation)(number)
