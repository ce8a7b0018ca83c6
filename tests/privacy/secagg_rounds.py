"""Whole rounds of secure aggregation among honest members, some of whom leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from evaluation.bench.secure_world import World, answers_of
from privacy.secagg.coordinator import Aggregation
from privacy.secagg.manifest import RoundManifest, Unsigned
from privacy.secagg.messages import Message


def whole_round(
    world: World,
    manifest: RoundManifest,
    values: Mapping[str, Unsigned],
    leaving: Mapping[str, int] | None = None,
) -> tuple[Unsigned, Aggregation]:
    """Run a round; `leaving` says from which phase (0 to 4) on a member answers no more."""
    aggregation = world.aggregation(manifest)
    answers = {name: answers_of(world.participant(name), values[name]) for name in manifest.cohort}
    questions: Mapping[str, Message] = aggregation.begin()
    for phase in range(5):
        for name, question in questions.items():
            if phase < (leaving or {}).get(name, 5):
                aggregation.accept(name, answers[name][phase](question))
        questions = aggregation.close() if phase < 4 else {}
    return aggregation.finish(), aggregation


def one_hot(names: Iterable[str], length: int) -> dict[str, Unsigned]:
    """Return contributions of which the n-th is 1 at place n and 0 elsewhere."""
    return {name: (np.arange(length) == place).astype("<u4") for place, name in enumerate(names)}
