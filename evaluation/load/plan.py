"""What load is given and what came of it, as files that two processes share: numbers only, nothing that runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluation.errors import LoadError
from evaluation.load.http2 import EXPIRED, UNSENT

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RANK_PATH = "/fedrank.ranking.v1.RankingService/Rank"
OK = 0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of time with one kind of load.

    Attributes:
        seconds: how long calls are begun; those in flight then go on into the next phase.
        rate: calls per second of an open loop, at random moments (Poisson), whatever the answers do; None: closed.
        in_flight: of a closed loop, how many calls are under way at any time.
    """

    seconds: float
    rate: float | None = None
    in_flight: int | None = None

    def __post_init__(self) -> None:
        """Refuse a phase that is neither open nor closed, or both."""
        if (self.rate is None) == (self.in_flight is None):
            raise LoadError(f"a phase has rate {self.rate} and in_flight {self.in_flight}; give one of them")
        if self.seconds <= 0 or (self.rate or self.in_flight or 0) <= 0:
            raise LoadError(f"a phase has {self}; time, rate and calls in flight must be above 0")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the generator.

    Attributes:
        port: on the loopback interface.
        connections: kept from phase to phase; one that is lost is opened again.
        deadline_s: of every call, from the moment it was due.
        watched: processes whose processor seconds are read at the borders of the phases.
        waits: what a caller does when all its connections are full: wait until the deadline, as gRPC's own callers do
            by default, or fail at once.
        keep: whether the messages of the answers are kept.
    """

    port: int
    phases: tuple[Phase, ...]
    connections: int = 4
    deadline_s: float = 1.0
    path: str = RANK_PATH
    seed: int = 1
    watched: tuple[int, ...] = ()
    waits: bool = False
    keep: bool = False

    def write(self, file: Path) -> None:
        """Write as JSON."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Plan:
        """Read what `write` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        phases = tuple(Phase(**phase) for phase in values.pop("phases"))
        return cls(phases=phases, **{**values, "watched": tuple(values["watched"])})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of every call, in the order in which they were due. Times in seconds since the load began.

    Attributes:
        due, sent, done: when a call should have begun, was written, and ended; NaN where it never was.
        status: 0 answered in time, a gRPC status, or how else it ended (`evaluation.load.http2`).
        phase: of the moment when it was due.
        begins: (phases + 1,) when each phase began, and when the last one ended.
        cpu: (phases + 1,) processor seconds of the watched processes at those moments.
        own_cpu: the same of the generator.
        late: seconds by which the generator was behind when it looked at the clock, one value per look.
        answers: messages of the answers, where they were kept; of a call without one, empty.
    """

    due: Floats
    sent: Floats
    done: Floats
    status: Ints
    phase: Ints
    begins: Floats
    cpu: Floats
    own_cpu: Floats
    late: Floats
    answers: tuple[bytes, ...] = ()

    def write(self, file: Path) -> None:
        """Write as arrays of numbers."""
        body = np.frombuffer(b"".join(self.answers), dtype=np.uint8)
        lengths = np.array([len(answer) for answer in self.answers], dtype=np.int64)
        arrays = {name: value for name, value in vars(self).items() if name != "answers"}
        np.savez(file, body=body, lengths=lengths, **arrays)

    @classmethod
    def read(cls, file: Path) -> Outcome:
        """Read what `write` wrote."""
        with np.load(file) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        body, ends = values.pop("body").tobytes(), np.cumsum(values.pop("lengths"))
        starts = [0, *ends.tolist()]
        answers = tuple(body[start:end] for start, end in zip(starts, ends.tolist(), strict=False))
        return cls(answers=answers, **values)

    def seconds(self, phase: int) -> float:
        """How long a phase took."""
        return float(self.begins[phase + 1] - self.begins[phase])

    def answered(self, phase: int) -> int:
        """Answers that came within their deadline while the phase went on, whenever their calls were due."""
        inside = (self.done >= self.begins[phase]) & (self.done < self.begins[phase + 1])
        return int((inside & (self.status == OK)).sum())

    def goodput(self, phase: int) -> float:
        """Answers in time, per second."""
        return self.answered(phase) / self.seconds(phase)

    def cpu_seconds(self, phase: int) -> float:
        """Processor seconds of the watched processes during a phase."""
        return float(self.cpu[phase + 1] - self.cpu[phase])

    def per_cpu_second(self, phase: int) -> float:
        """Answers in time, per processor second of the watched processes."""
        return self.answered(phase) / self.cpu_seconds(phase)

    def latency(self, phase: int, quantile: float) -> float:
        """A quantile of the seconds from when an answered call of a phase was due to its answer."""
        mine = (self.phase == phase) & (self.status == OK)
        if not mine.any():
            raise LoadError(f"no call of phase {phase} was answered in time, so it has no latency")
        return float(np.quantile(self.done[mine] - self.due[mine], quantile))

    def latency_by_window(self, phase: int, quantile: float, seconds: float) -> list[float]:
        """The same for each stretch of so many seconds of a phase in which a call was answered."""
        found = []
        for start in np.arange(self.begins[phase], self.begins[phase + 1], seconds).tolist():
            mine = (self.due >= start) & (self.due < start + seconds) & (self.status == OK)
            if mine.any():
                found.append(float(np.quantile(self.done[mine] - self.due[mine], quantile)))
        return found

    def offered(self, phase: int) -> int:
        """Calls that were due in a phase."""
        return int((self.phase == phase).sum())

    def ended(self, phase: int) -> dict[int, int]:
        """How many calls of a phase ended with which status."""
        numbers, counts = np.unique(self.status[self.phase == phase], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def failed(self) -> int:
        """Calls of all phases that were sent and got no answer in time, refusals included."""
        return int(((self.status != OK) & (self.status != UNSENT)).sum())

    def timed_out(self, phase: int) -> int:
        """Calls of a phase whose deadline passed, sent or not."""
        ended = self.ended(phase)
        return ended.get(EXPIRED, 0) + ended.get(UNSENT, 0)
