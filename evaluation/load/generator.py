"""The load generator: `python -m evaluation.load.generator PLAN BODIES OUTCOME`, a process of its own.

Open loop: a call is due at a moment drawn beforehand, and its latency runs from that moment, sent late or not, so
that a slow server cannot make its own measurement kinder (coordinated omission). As gRPC's callers do, a call that
the server refused before it looked at it is sent once more.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.errors import LoadError
from evaluation.load.hpack import CallHeaders
from evaluation.load.http2 import EXPIRED, REFUSED, UNSENT, Answer, Connection, framed
from evaluation.load.plan import OK, Outcome, Phase, Plan
from evaluation.load.processes import cpu_seconds

_READ_BYTES = 1 << 18
_LONGEST_SLEEP = 0.02
_GRACE = 0.25
"""Seconds after the last deadline in which nothing is expected any more."""


class Line:
    """A socket with its connection."""

    def __init__(self, port: int, path: str) -> None:
        """Connect; raises `OSError` where nobody listens."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.connection = Connection(CallHeaders(path, f"127.0.0.1:{port}"))
        self._rest = b""

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes are left that the socket did not take."""
        return bool(self._rest)

    def write(self) -> None:
        """Write as much as the socket takes."""
        if not (self.connection.outgoing or self._rest):
            return
        data = self._rest + b"".join(self.connection.outgoing)
        self.connection.outgoing.clear()
        try:
            self._rest = data[self.socket.send(data) :]
        except BlockingIOError:
            self._rest = data

    def read(self) -> list[Answer]:
        """Read what is there; raises `OSError` where the connection is gone."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return self.connection.feed(data)


class Generator:
    """Carries a plan out. One thread, no memory but that of the calls."""

    def __init__(self, plan: Plan, bodies: Sequence[bytes]) -> None:
        """Open the connections and draw the moments of the open phases."""
        self._plan = plan
        self._bodies = [framed(body) for body in bodies]
        self._lines = [Line(plan.port, plan.path) for _ in range(plan.connections)]
        self._waiting: deque[int] = deque()
        self._sent_first: deque[int] = deque()
        self._due: list[float] = []
        self._sent: list[float] = []
        self._done: list[float] = []
        self._status: list[int] = []
        self._phase: list[int] = []
        self._answers: list[bytes] = []
        self._late: list[float] = []
        self._again: set[int] = set()
        self._marks: list[tuple[float, float, float]] = []
        self._zero = 0.0

    def run(self) -> Outcome:
        """Give the load, wait for the last answers, and return what became of every call."""
        draws = np.random.default_rng(self._plan.seed)
        self._zero = time.perf_counter()
        begin = 0.0
        for number, phase in enumerate(self._plan.phases):
            self._mark()
            end = begin + phase.seconds
            moments = _moments(phase, begin, draws)
            self._carry_out(number, phase, moments, end)
            begin = end
        self._mark()
        end = begin + self._plan.deadline_s + _GRACE
        while self._unended() and self._now() < end:
            self._turn_once(_LONGEST_SLEEP)
        return self._outcome()

    def _carry_out(self, number: int, phase: Phase, moments: Sequence[float], end: float) -> None:
        place = 0
        while (now := self._now()) < end:
            if phase.in_flight is not None:
                for _ in range(phase.in_flight - self._unended()):
                    self._call(number, now)
                self._turn_once(min(end - now, _LONGEST_SLEEP))
                continue
            if place < len(moments) and moments[place] <= now:
                self._late.append(now - moments[place])
            while place < len(moments) and moments[place] <= now:
                self._call(number, moments[place])
                place += 1
            until = min(moments[place] if place < len(moments) else end, end)
            self._turn_once(min(max(until - self._now(), 0.0), _LONGEST_SLEEP))

    def _call(self, phase: int, due: float) -> None:
        self._waiting.append(len(self._due))
        self._due.append(due)
        self._sent.append(np.nan)
        self._done.append(np.nan)
        self._status.append(UNSENT)
        self._phase.append(phase)
        self._answers.append(b"")

    def _turn_once(self, seconds: float) -> None:
        """Give up what is too late, send what may be sent, and read what comes within so many seconds."""
        self._give_up()
        self._send_waiting()
        for line in self._lines:
            line.write()
        sockets = {line.socket: line for line in self._lines}
        full = [line.socket for line in self._lines if line.wants_to_write]
        readable, _, _ = select.select(sockets, full, (), seconds)
        for found in readable:
            self._read(sockets[found])

    def _send_waiting(self) -> None:
        while self._waiting:
            line = self._free_line()
            if line is None:
                break
            call = self._waiting.popleft()
            now = self._sent[call] = self._now()
            self._sent_first.append(call)
            left = self._due[call] + self._plan.deadline_s - now
            line.connection.begin(call, self._bodies[call % len(self._bodies)], left)
        if not self._plan.waits:
            self._give_up_waiting(self._now())

    def _free_line(self) -> Line | None:
        """The connection that may begin most calls; None where all are full."""
        line = max(self._lines, key=lambda line: line.connection.free)
        return line if line.connection.free > 0 else None

    def _give_up(self) -> None:
        late = self._now() - self._plan.deadline_s
        self._give_up_waiting(late)
        while self._sent_first and self._due[self._sent_first[0]] < late:
            call = self._sent_first.popleft()
            for line in self._lines:
                if line.connection.holds(call):
                    line.connection.cancel(call)
                    self._end(Answer(call, EXPIRED, b""))

    def _give_up_waiting(self, before: float) -> None:
        while self._waiting and self._due[self._waiting[0]] < before:
            self._done[self._waiting.popleft()] = self._now()

    def _read(self, line: Line) -> None:
        connection, was_leaving, gone = line.connection, line.connection.leaving, False
        try:
            answers = line.read()
        except OSError:
            answers, gone = connection.lose(), True
        for answer in answers:
            if answer.status == REFUSED and answer.token not in self._again:
                self._again.add(answer.token)
                self._waiting.appendleft(answer.token)
            else:
                self._end(answer)
        if not was_leaving and (gone or connection.leaving):
            self._open_another()
        if gone or (connection.leaving and not connection.in_flight):
            line.socket.close()
            self._lines.remove(line)

    def _open_another(self) -> None:
        """Open a connection beside one that is gone or takes no more calls."""
        try:
            self._lines.append(Line(self._plan.port, self._plan.path))
        except OSError as error:
            raise LoadError(f"nobody listens on port {self._plan.port} any more, so the load ends") from error

    def _end(self, answer: Answer) -> None:
        call, now = answer.token, self._now()
        in_time = answer.status != OK or now - self._due[call] <= self._plan.deadline_s
        self._status[call] = answer.status if in_time else EXPIRED
        self._done[call] = now
        if self._plan.keep:
            self._answers[call] = answer.body[5:]

    def _unended(self) -> int:
        return len(self._waiting) + sum(line.connection.in_flight for line in self._lines)

    def _mark(self) -> None:
        self._marks.append((self._now(), cpu_seconds(self._plan.watched), time.process_time()))

    def _now(self) -> float:
        return time.perf_counter() - self._zero

    def _outcome(self) -> Outcome:
        begins, cpu, own = np.array(self._marks).T
        return Outcome(
            due=np.array(self._due),
            sent=np.array(self._sent),
            done=np.array(self._done),
            status=np.array(self._status, dtype=np.int64),
            phase=np.array(self._phase, dtype=np.int64),
            begins=begins,
            cpu=cpu,
            own_cpu=own,
            late=np.array(self._late),
            answers=tuple(self._answers) if self._plan.keep else (),
        )


def _moments(phase: Phase, begin: float, draws: np.random.Generator) -> list[float]:
    """Draw when the calls of an open phase are due: a Poisson process."""
    if phase.rate is None:
        return []
    expected = phase.rate * phase.seconds
    gaps = draws.exponential(1 / phase.rate, size=int(expected + 10 * expected**0.5 + 10))
    moments = begin + np.cumsum(gaps)
    inside: list[float] = moments[moments < begin + phase.seconds].tolist()
    return inside


def write_bodies(file: Path, bodies: Sequence[bytes]) -> None:
    """Write messages to a file, each behind its length."""
    file.write_bytes(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))


def read_bodies(file: Path) -> list[bytes]:
    """Read what `write_bodies` wrote."""
    data, place, bodies = file.read_bytes(), 0, []
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        bodies.append(data[place + 4 : end])
        place = end
    return bodies


def main(plan: str, bodies: str, outcome: str) -> None:
    """Carry out the plan in one file with the messages in another, and write the outcome to a third."""
    generator = Generator(Plan.read(Path(plan)), read_bodies(Path(bodies)))
    gc.disable()
    generator.run().write(Path(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
