"""Runs a federation from the coordinator's machine: submits a run, follows it, and takes up one that died."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

from deploy.kit import CoordinatorKit
from deploy.run_words import JOURNAL, run_words
from privacy.canonical import Scalar
from privacy.key_files import locked
from server.coordination.journal import CURRENT
from server.coordination.status import RunStatus, State
from server.coordination.superlink import RunState
from server.coordination.superlink_files import SuperLinkError
from server.errors import ServerError

log = logging.getLogger("fedrank.federation")

LOOK: Final = 0.5
"""Seconds between two looks at a run."""
PATIENCE: Final = 120.0
"""Seconds that a SuperLink may be away before a run counts as lost."""
RESUMES: Final = 3
"""How often a run whose process died is taken up again before a person has to look."""
LOCK: Final = "run.lock"

T = TypeVar("T")


class RunFailed(ServerError):
    """A run of the federation ended without a model version."""


class RunGoing(ServerError):
    """A run of this federation is going already."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time, passed in for tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Link(Protocol):
    """What this needs of a SuperLink."""

    def submit(self, run_config: Mapping[str, Scalar]) -> int:
        """Submit a run and return its id."""

    def state(self, run_id: int) -> RunState:
        """Say how a run fares."""

    def unfinished(self) -> list[int]:
        """Ids of the runs that are going."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Does runs of one federation, one at a time.

    Attributes:
        link: connects to the coordinator's SuperLink.
        watch: is given the status whenever it has changed.
    """

    kit: CoordinatorKit
    link: Callable[[], AbstractContextManager[Link]]
    watch: Callable[[RunStatus], None] = lambda _status: None
    clock: Clock = field(default_factory=Clock)

    @property
    def folder(self) -> Path:
        """Where the journal and the status lie."""
        return self.kit.data / JOURNAL

    def last_begun(self) -> datetime | None:
        """Return when the newest run began (UTC); None where there is none, or a crash cut it off."""
        known = RunStatus.read(self.folder)
        cut_off = (self.folder / CURRENT).exists()
        return None if known is None or cut_off else datetime.fromisoformat(known.began)

    def run(self) -> RunStatus:
        """Do one run, or what is left of one that died, and return how it ended.

        Raises:
            RunGoing: another run is going.
            RunFailed: with the reason; what it has learned is in its journal.
            SuperLinkError: the coordinator is not running.
        """
        words = ""
        with _alone(self.folder):
            self._refuse_another()
            for attempt in range(1 + RESUMES):
                before = RunStatus.read(self.folder)
                run = self._patiently(
                    lambda link: link.submit(run_words(self.kit)), PATIENCE if attempt else 0
                )
                state = self._followed(run, before)
                status = RunStatus.read(self.folder)
                if status is not None and status != before and status.state is State.FINISHED:
                    return status
                if status is not None and status != before and status.state is State.FAILED:
                    raise RunFailed(f"the run failed: {status.last_error}")
                words = f"{state.outcome}: {state.details}"
                log.warning("the run's process died (%s); what is left of it is done anew", words)
        raise RunFailed(
            f"the run died {1 + RESUMES} times, the last time so: {words}; see the coordinator's log, then run "
            "again: what it has learned is in its journal"
        )

    def _refuse_another(self) -> None:
        with self.link() as link:
            going = link.unfinished()
        if going:
            raise RunGoing(
                f"run {going[0]} of this federation is going; wait for its end "
                f"(fedrank federation status {self.kit.folder} --watch)"
            )

    def _followed(self, run: int, seen: RunStatus | None) -> RunState:
        """Wait for the end of a run, and show what differs from the status `seen` before it."""
        log.info("run %d is submitted", run)
        while True:
            state = self._patiently(lambda link: link.state(run), PATIENCE)
            if (status := RunStatus.read(self.folder)) is not None and status != seen:
                seen = status
                self.watch(status)
            if state.finished:
                return state
            self.clock.sleep(LOOK)

    def _patiently(self, ask: Callable[[Link], T], patience: float) -> T:
        """Ask a SuperLink that may be away for a while."""
        end = self.clock.now() + patience
        while True:
            try:
                with self.link() as link:
                    return ask(link)
            except SuperLinkError:
                if self.clock.now() >= end:
                    raise
            self.clock.sleep(LOOK)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one that runs this federation."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, wait=False) as mine:
        if not mine:
            raise RunGoing(
                "another `fedrank federation run` is at work on this kit; wait for it, or end it with Ctrl-C"
            )
        yield
