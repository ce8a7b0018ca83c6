"""Keeps the child processes of one kit alive: starts them, starts them anew when they end, and ends them all.

A child that ends is started again after a pause that doubles with every failure in a row. SIGTERM and SIGINT end
everything, the last first.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from proto.readiness import READY

log = logging.getLogger("fedrank.federation")

LOOK_SECONDS: Final = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0
STEADY_SECONDS: Final = 30.0
"""A child that lived this long failed for a new reason: its pauses begin anew."""
GRACE_SECONDS: Final = 10.0
"""How long a child may take to end by itself before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One child process.

    Attributes:
        target: what it runs, MODULE:FUNCTION.
        ready: whether it does its work; asked until it says yes.
        environment: what is added to the supervisor's own.
    """

    name: str
    target: str
    arguments: tuple[str, ...] = ()
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Child:
    """A running service; `process` is None while its pause lasts."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    next_start: float = 0.0
    ready: bool = False


class Supervisor:
    """Runs services until it is told to stop."""

    def __init__(self, services: Sequence[Service], on_ready: Callable[[], None]) -> None:
        """Prepare; nothing runs yet. `on_ready` is called once, when all services are ready for the first time."""
        self._children = [_Child(service=service) for service in services]
        self._on_ready = on_ready
        self._stopping = self._announced = False

    def run(self) -> None:
        """Start the services and look after them; returns after SIGTERM or SIGINT, when all have ended."""
        previous = {sign: signal.signal(sign, self._stop) for sign in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping:
                self._look()
                time.sleep(LOOK_SECONDS)
        finally:
            self._end_all()
            for sign, handler in previous.items():
                signal.signal(sign, handler)

    def _stop(self, _sign: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _look(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.next_start:
                    _start(child, now)
            elif (status := child.process.poll()) is not None:
                _ended(child, status, now)
            elif not child.ready and child.service.ready():
                child.ready = True
                log.info("%s is ready", child.service.name)
        if not self._announced and all(child.ready for child in self._children):
            self._announced = True
            self._on_ready()

    def _end_all(self) -> None:
        for child in reversed(self._children):
            _end(child)


def _start(child: _Child, now: float) -> None:
    service = child.service
    command = [sys.executable, "-m", "fedrank.federation.child", service.target, *service.arguments]
    if READY in service.environment:  # an earlier life's: whoever looks must not take it for this one's
        Path(service.environment[READY]).unlink(missing_ok=True)
    child.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        env={**os.environ, **service.environment},
        start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the children in order
    )
    child.started = now


def _ended(child: _Child, status: int, now: float) -> None:
    """Note that a child has ended, and when it starts again."""
    failures = 0 if now - child.started > STEADY_SECONDS else child.failures
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
    what = f"signal {-status}" if status < 0 else f"status {status}"
    log.warning("%s ended with %s; it starts again in %.1f seconds", child.service.name, what, pause)
    child.process, child.ready = None, False
    child.failures, child.next_start = failures + 1, now + pause


def _end(child: _Child) -> None:
    """End one child: ask, wait, kill."""
    process = child.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("%s did not end in %.0f seconds and is killed", child.service.name, GRACE_SECONDS)
        process.kill()
        process.wait()
