"""Promotions of model versions under load: no call fails, and no answer mixes two versions.

The two versions rank so differently that their lists for one question share almost nothing. First each version is
asked alone; then they are promoted in turn while calls come at half the peak, and every answer is held against the
list of the version that it names.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from evaluation.bench.ranking_servers import Server, load
from evaluation.bench.ranking_world import World, questions
from evaluation.bench.rows import Row
from evaluation.load.plan import OK, Outcome, Phase, Plan
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.registry import Registry

ASKED = 200
"""Different questions."""
OWN_SHARE = 0.8
"""At least so much of an answer's list is in the list of its version; near ties may change places in a batch."""
_TAKEN_SECONDS = 60.0

Lists = Mapping[str, Sequence[frozenset[str]]]


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """What was seen: calls, failed ones, answers that mix versions, and changes of version that callers saw."""

    calls: int
    failed: int
    mixed: int
    changes: int

    def rows(self) -> list[Row]:
        """What must not happen, and how much there was of what may."""
        words = "promotion of a version under load"
        return [
            Row(measure=f"{words}: failed calls", value=self.failed, unit="calls", target=0, at_least=False),
            Row(
                measure=f"{words}: answers that mix versions",
                value=self.mixed,
                unit="answers",
                target=0,
                at_least=False,
            ),
            Row(measure=f"{words}: calls", value=self.calls, unit="calls"),
            Row(measure=f"{words}: changes of version that callers saw", value=self.changes, unit="changes"),
        ]


def promote_under_load(
    server: Server, world: World, *, rate: float, seconds: float, every: float
) -> Promoted:
    """Load the endpoint and promote a version every so many seconds; `world` needs two versions."""
    bodies = questions(world, ASKED)
    registry = Registry(world.folder / "registry")
    known = {version: _lists_of(server, world, bodies, registry, version) for version in world.versions}
    plan = Plan(port=0, phases=(Phase(seconds=seconds, rate=rate),), deadline_s=5.0, keep=True)
    with _promoting(registry, world.versions, every):
        outcome = load(plan, bodies, world.folder, server)
    return judge(outcome, known)


def judge(outcome: Outcome, known: Lists) -> Promoted:
    """Hold every answer against the list of the version that it names."""
    mixed, versions = 0, []
    for call, message in enumerate(outcome.answers):
        if outcome.status[call] != OK:
            continue
        answer = pb.RankResponse.FromString(message)
        items = [item.item_id for item in answer.items]
        lists = known.get(answer.model_version)
        own = lists[call % len(lists)].intersection(items) if lists else ()
        mixed += len(own) < OWN_SHARE * len(items) or not items
        versions.append(answer.model_version)
    changes = sum(before != after for before, after in itertools.pairwise(versions))
    return Promoted(calls=len(outcome.answers), failed=outcome.failed(), mixed=mixed, changes=changes)


def _lists_of(
    server: Server, world: World, bodies: Sequence[bytes], registry: Registry, version: str
) -> Sequence[frozenset[str]]:
    """What one version answers to each question, asked when no other is served."""
    registry.promote(version)
    end = time.monotonic() + _TAKEN_SECONDS
    while time.monotonic() < end:
        plan = Plan(
            port=0, phases=(Phase(seconds=1.0, rate=float(2 * len(bodies))),), deadline_s=20.0, keep=True
        )
        found = load(plan, bodies, world.folder, server)
        answers = [pb.RankResponse.FromString(message) for message in found.answers[: len(bodies)]]
        if {answer.model_version for answer in answers} == {version} and len(answers) == len(bodies):
            return [frozenset(item.item_id for item in answer.items) for answer in answers]
    return []


@contextmanager
def _promoting(registry: Registry, versions: Sequence[str], every: float) -> Iterator[None]:
    """Promote the versions in turn from another thread."""
    stop = threading.Event()

    def turn() -> None:
        for version in itertools.cycle(versions):
            registry.promote(version)
            if stop.wait(every):
                return

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
