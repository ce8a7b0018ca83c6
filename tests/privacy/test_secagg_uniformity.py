"""What a recording coordinator sees is uniform, one by one and in every sum that is not the released one."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest
from uniformity import uniformity

from evaluation.bench.secure_world import World, answers_of
from privacy.secagg.encoding import decode, encode
from privacy.secagg.manifest import Unsigned
from privacy.secagg.messages import Masked, Message

LENGTH = 4000
UNLIKELY = 1e-4
"""Draws are fixed, so a sound test fails never; a false alarm would come once in ten thousand choices of the seed."""


class Recorded:
    """A round of five shops whose coordinator writes down every contribution before it adds it up."""

    def __init__(self, bits: int, seed: int) -> None:
        """Run it with contributions that are zero but for a small bump."""
        world = World.make(5)
        manifest = world.manifest(LENGTH, modulus_bits=bits)
        rng = random.Random(seed)
        values = np.zeros(LENGTH)
        values[100:200] = 0.25
        self.plain: Unsigned = encode(values, manifest.step, bits, parties=5)
        self.seen: dict[str, Unsigned] = {}
        aggregation = world.aggregation(manifest)
        members = {name: world.participant(name, entropy=rng.randbytes) for name in manifest.cohort}
        answers = {name: answers_of(one, self.plain) for name, one in members.items()}
        questions: Mapping[str, Message] = aggregation.begin()
        for phase in range(5):
            for name, question in questions.items():
                answer = answers[name][phase](question)
                if isinstance(answer, Masked):
                    self.seen[name] = np.frombuffer(answer.content, dtype=manifest.dtype)
                aggregation.accept(name, answer)
            questions = aggregation.close() if phase < 4 else {}
        self.total = decode(aggregation.finish(), manifest.step)


@pytest.fixture(scope="module", params=[32, 64])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """One round for each modulus."""
    return Recorded(request.param, seed=11)


def test_every_single_contribution_is_uniform(recorded: Recorded) -> None:
    """Although all of them are the same, and nearly nothing."""
    assert len(recorded.seen) == 5
    assert min(uniformity(words) for words in recorded.seen.values()) > UNLIKELY


def test_every_partial_sum_and_the_whole_of_what_was_sent_is_uniform(recorded: Recorded) -> None:
    """Masks between pairs cancel in the whole sum; each participant's own mask is on it still."""
    seen = list(recorded.seen.values())
    sums = [sum(seen[:count], np.zeros_like(seen[0])) for count in range(2, 6)]
    assert min(uniformity(words) for words in sums) > UNLIKELY


def test_no_two_contributions_differ_by_something_plain(recorded: Recorded) -> None:
    """The difference of two equal contributions is uniform, not zero."""
    seen = list(recorded.seen.values())
    assert min(uniformity(one - seen[0]) for one in seen[1:]) > UNLIKELY


def test_the_released_sum_is_the_sum(recorded: Recorded) -> None:
    """What is left after unmasking is five times the bump."""
    assert np.array_equal(recorded.total[95:105], [0.0] * 5 + [1.25] * 5)


def test_unmasked_contributions_are_rejected(recorded: Recorded) -> None:
    """The test has power: bare values, values with noise, and a stream that is used twice do not pass."""
    rng = np.random.default_rng(3)
    noisy = recorded.plain + rng.integers(0, 2**20, LENGTH).astype(recorded.plain.dtype)
    stream = rng.integers(0, 2**32, LENGTH // 2).astype(recorded.plain.dtype)
    counted = stream[0] + np.arange(LENGTH).astype(recorded.plain.dtype)
    for words in (recorded.plain, noisy, counted):
        assert uniformity(words) < 1e-9
