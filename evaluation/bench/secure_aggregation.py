"""What secure aggregation costs: processor time of a participant and of the coordinator, traffic, drop-outs.

All parties run in one process, one after the other, so that processor time can be told apart by party.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np

from evaluation.bench.rows import Row
from evaluation.bench.secure_world import World, answers_of
from evaluation.settings import Watch
from privacy.secagg.encoding import decode_units, encode_units
from privacy.secagg.manifest import RoundManifest, Unsigned
from privacy.secagg.messages import Message

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a round is.

    Attributes:
        leaving: participants that drop out after they have dealt shares, which costs the coordinator most.
    """

    participants: int = 50
    parameters: int = 250_000
    leaving: int = 15


COORDINATOR: Final = "the coordinator"
QUICK: Final = Size(participants=20, parameters=50_000, leaving=6)
REPEATS: Final = 3
"""Rounds of each kind, of which the quickest counts: others share the machine."""
PARTICIPANT_SECONDS, TRAFFIC_SHARE, TRAFFIC_MORE, DROPOUT_TIMES = 2.0, 1.1, 65_536, 1.5


@dataclass(kw_only=True)
class Cost:
    """What one round cost.

    Attributes:
        seconds: of processor time, by name.
        traffic: bytes sent and received by name, without what a transport adds.
        wrong: entries of the sum that are not the exact sum of the survivors.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    traffic: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    def spent(self, name: str, function: Callable[..., Result], *words: Any) -> Result:
        """Call a function, and note the processor time that it takes."""
        before = time.process_time()
        result = function(*words)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - before
        return result

    @property
    def coordinator(self) -> float:
        """Of the coordinator."""
        return self.seconds[COORDINATOR]

    @property
    def participant(self) -> float:
        """Of the slowest participant."""
        return max(seconds for name, seconds in self.seconds.items() if name != COORDINATOR)

    @property
    def work(self) -> float:
        """Of all parties together."""
        return sum(self.seconds.values())


def secure_rows(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure rounds with and without drop-outs; `quick` takes a smaller round, on which the targets mean less."""
    size = QUICK if quick else Size()
    world = World.make(size.participants)
    watch.begin("secure aggregation, rounds with and without drop-outs", 2 * REPEATS)
    whole = [_measured(world, size, 0, watch) for _ in range(REPEATS)]
    torn = [_measured(world, size, size.leaving, watch) for _ in range(REPEATS)]
    return rows_of(size, whole, torn, plain_seconds(size))


def rows_of(size: Size, whole: list[Cost], torn: list[Cost], plain: float) -> list[Row]:
    """Return the rows of measured rounds."""
    words = f"secure aggregation, {size.participants} participants x {size.parameters:,} parameters"
    left = f"{words}, {size.leaving} dropped out"
    best, worst = (min(costs, key=lambda cost: cost.work) for costs in (whole, torn))
    allowed = TRAFFIC_SHARE * 4 * size.parameters + TRAFFIC_MORE
    most = max(value for cost in whole + torn for value in cost.traffic.values())
    path, torn_path = (cost.participant + cost.coordinator for cost in (best, worst))
    return [
        _below(f"{words}: processor time of a participant", best.participant, "seconds", PARTICIPANT_SECONDS),
        Row(measure=f"{words}: of that, beside a plain sum", value=best.participant / plain, unit="ratio"),
        Row(measure=f"{words}: processor time of the coordinator", value=best.coordinator, unit="seconds"),
        _below(f"{words}: traffic of a participant", most, "bytes", allowed),
        _below(
            f"{left}: processor time of all, beside none dropped",
            worst.work / best.work,
            "ratio",
            DROPOUT_TIMES,
        ),
        Row(
            measure=f"{left}: slowest participant and coordinator alone, beside none dropped",
            value=torn_path / path,
            unit="ratio",
        ),
        Row(measure=f"{left}: processor time of the coordinator", value=worst.coordinator, unit="seconds"),
        _below(f"{words}: wrong entries in all sums", sum(c.wrong for c in whole + torn), "entries", 0),
    ]


def measure(world: World, size: Size, leaving: int) -> Cost:
    """Run one round of random contributions, from which the first `leaving` drop out before they contribute."""
    manifest = world.manifest(size.parameters)
    values = _values(manifest)
    answers = {name: answers_of(world.participant(name), values[name]) for name in manifest.cohort}
    gone = set(manifest.cohort[:leaving])
    aggregation, cost = world.aggregation(manifest), Cost()
    questions: Mapping[str, Message] = cost.spent(COORDINATOR, aggregation.begin)
    for phase in range(5):
        for name, question in questions.items():
            if phase >= 2 and name in gone:
                continue
            answer = cost.spent(name, answers[name][phase], question)
            cost.traffic[name] += _bytes_of(question) + _bytes_of(answer)
            cost.spent(COORDINATOR, aggregation.accept, name, answer)
        questions = cost.spent(COORDINATOR, aggregation.close) if phase < 4 else {}
    total = cost.spent(COORDINATOR, aggregation.finish)
    cost.wrong = int((total != _plain_sum([values[name] for name in aggregation.survivors])).sum())
    return cost


def plain_seconds(size: Size) -> float:
    """Return the processor time of a participant that only encodes its integers and sends them as they are."""
    units = np.arange(size.parameters)
    times = []
    for _ in range(20):
        before = time.process_time()
        encode_units(units, 32, size.participants).tobytes()
        times.append(time.process_time() - before)
    return min(times)


def _measured(world: World, size: Size, leaving: int, watch: Watch) -> Cost:
    cost = measure(world, size, leaving)
    watch.step()
    return cost


def _values(manifest: RoundManifest) -> dict[str, Unsigned]:
    rng = np.random.default_rng(7)
    shape = manifest.length
    return {name: encode_units(rng.integers(-(2**20), 2**20, shape), 32) for name in manifest.cohort}


def _plain_sum(values: list[Unsigned]) -> Unsigned:
    """Add up in signed 64 bits, by another way than the protocol."""
    total = sum((decode_units(one) for one in values), np.int64(0))
    return encode_units(np.asarray(total), 32, 1)


def _bytes_of(message: Message) -> int:
    """Count the bytes of all fields, names included."""
    entries = [
        entry
        for value in message.to_record().values()
        for entry in (value if isinstance(value, list) else [value])
    ]
    return sum(len(entry) for entry in entries)


def _below(measure: str, value: float, unit: str, target: float) -> Row:
    return Row(measure=measure, value=value, unit=unit, target=target, at_least=False)
