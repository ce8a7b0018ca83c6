"""Where a run stands: one small file that the coordinator replaces whole, and that anybody on the machine may read.

It holds what is public: rounds, stages, names of merchants, reasons. Nothing depends on it; what must survive a
crash is in the journal and in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from proto.federation import Task
from server.errors import ServerError

STATUS = "status.json"
LISTS = ("present", "cohort", "refused", "taken", "not_taken")


class StatusUnreadable(ServerError):
    """The status file is not what a coordinator writes."""


class State(StrEnum):
    """What the coordinator is doing."""

    STARTING = "starting"
    WAITING = "waiting for participants"
    ASKING = "asking"
    BETWEEN = "between rounds"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One moment of one run.

    Attributes:
        run: id of the run's journal.
        rounds: of the whole run.
        attempt: at this round, from 1.
        present: names of the participants that are connected.
        participants: how many the newest sum is of.
        cohort: names of those in it, where the protocol knows them.
        refused: who is not in it, with the reason.
        deadline: when the coordinator stops waiting, ISO 8601 in UTC; empty where it does not wait.
        version: that this run made.
        taken, not_taken: names of the nodes that have it now, and who has not, with the reason.
        last_error: newest reason why a round or the run was given up.
    """

    run: str = ""
    state: State = State.STARTING
    began: str = ""
    at: str = ""
    round: int = 0
    rounds: int = 0
    stage: str = ""
    attempt: int = 1
    present: tuple[str, ...] = ()
    participants: int = 0
    cohort: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    deadline: str = ""
    version: str = ""
    taken: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()
    last_error: str = ""

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the status in a folder, or None before the first run; raises `StatusUnreadable`."""
        try:
            words = json.loads((folder / STATUS).read_bytes())
            lists = {name: tuple(words[name]) for name in LISTS}
            return cls(**{**words, **lists, "state": State(words["state"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StatusUnreadable(
                f"{folder / STATUS} cannot be read ({type(error).__name__}); it is written anew by the next run"
            ) from None


class StatusFile:
    """The status of one run as it changes; without a folder it is kept nowhere."""

    def __init__(self, folder: Path | None, *, run: str, rounds: int) -> None:
        """Say that a run starts."""
        self._folder = folder
        self._now = RunStatus(run=run, rounds=rounds, began=_utc())
        self._write()

    def waiting(self, task: Task, present: Sequence[str], seconds: float) -> None:
        """Too few participants are connected; the coordinator waits so many seconds for more."""
        self._ask(State.WAITING, task, present, seconds)

    def asking(self, task: Task, attempt: int, present: Sequence[str], seconds: float) -> None:
        """A round is asked; its answers are awaited so many seconds."""
        self._ask(State.ASKING, task, present, seconds, attempt=attempt)

    def released(self, task: Task, participants: int, cohort: Sequence[str], refused: Sequence[str]) -> None:
        """A round released its sum."""
        self._note(
            state=State.BETWEEN,
            round=task.round,
            participants=participants,
            cohort=tuple(cohort),
            refused=tuple(refused),
            deadline="",
        )

    def given_up(self, reason: str) -> None:
        """A round was given up; the run may go on."""
        self._note(state=State.BETWEEN, last_error=reason, deadline="")

    def finished(self, version: str, taken: Sequence[str], not_taken: Sequence[str]) -> None:
        """The run made a version, and some nodes have it."""
        self._note(
            state=State.FINISHED, version=version, taken=tuple(taken), not_taken=tuple(not_taken), deadline=""
        )

    def failed(self, reason: str) -> None:
        """The run ended without a version."""
        self._note(state=State.FAILED, last_error=reason, deadline="")

    def _ask(self, state: State, task: Task, present: Sequence[str], seconds: float, **more: object) -> None:
        words = {"round": task.round, "stage": task.stage, "present": tuple(present)}
        self._note(state=state, deadline=_utc(seconds), **words, **more)

    def _note(self, **changes: object) -> None:
        self._now = replace(self._now, at=_utc(), **changes)  # type: ignore[arg-type]
        self._write()

    def _write(self) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".{STATUS}"
        beside.write_text(json.dumps(asdict(self._now), indent=1, ensure_ascii=False), encoding="utf-8")
        beside.replace(self._folder / STATUS)


def _utc(later: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later)).isoformat(timespec="seconds")
