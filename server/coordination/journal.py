"""The journal of a run: every released array is on the disk, in order, before the learner sees it.

A coordinator that died is started again with the same journal. The rounds in it are not asked anew: the learner is
deterministic, so the released arrays lead it to the very same bits. A folder holds one run in progress, `current`,
and what was done before, by the run's id:

    lock  current/{journal.json, 0001.json, 0001.safetensors, ...}  RUN/{journal.json, 0001.json, ...}

The arrays are written first; the entry beside them is what makes a round released.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from privacy.failpoints import passed
from privacy.key_files import flush_folder, locked, write_durably
from privacy.plan import Plan
from proto.federation import Task
from server.coordination.journal_entry import (
    FORMAT,
    Entry,
    JournalError,
    Outcome,
    damaged,
    digest_of,
    sealed,
    unsealed,
)

Totals = dict[str, NDArray[np.float64]]

CURRENT, OPENING, LOCK = "current", "journal.json", "lock"
KEPT_ARRAYS = 5
"""Finished runs whose arrays are kept; of older ones the entries remain, which name the arrays' digests."""


class JournalInUse(JournalError):
    """Another coordinator writes this journal."""


class ForeignJournal(JournalError):
    """The journal was begun by a run over something else."""


class Journal:
    """The run in progress of one folder; `opened` gives it to one process at a time."""

    def __init__(self, folder: Path, opening: Mapping[str, Any]) -> None:
        """Read what is there; `JournalDamaged` names the file that is not what was written."""
        self._folder = folder
        self.run_id, self.spent_before = str(opening["run"]), float(opening["spent_mu2"])
        self._newest = digest_of((folder / OPENING).read_bytes())
        self._entries: list[Entry] = []
        for entry, content in read_entries(folder, self._newest):
            self._arrays_of(entry)
            self._entries.append(entry)
            self._newest = digest_of(content)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that was written, in order."""
        return tuple(self._entries)

    def released(self, number: int) -> tuple[Entry, Totals] | None:
        """Return round `number` with its arrays if it was released, to the last bit."""
        for entry in self._entries:
            if entry.task.round == number and entry.outcome is Outcome.RELEASED:
                return entry, self._arrays_of(entry)
        return None

    def release(self, task: Task, plan: Plan, arrays: Totals, **answers: Any) -> None:
        """Keep what a round released, durably; `answers` are `participants`, `cohort` and `refused`."""
        content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        path = self._place(len(self._entries) + 1).with_suffix(".safetensors")
        path.unlink(missing_ok=True)  # of a process that died before the entry
        write_durably(path, content)
        passed("journal: arrays written")
        self._append(task, plan, Outcome.RELEASED, arrays=hashlib.sha256(content).hexdigest(), **answers)
        passed("journal: entry written")

    def give_up(self, task: Task, plan: Plan, reason: str) -> None:
        """Keep that a round was given up, and why."""
        self._append(task, plan, Outcome.VOID, reason=reason)

    def finish(self) -> None:
        """Put the run with those that are done; what only a restart needed goes after some runs."""
        flush_folder(self._folder)
        self._folder.rename(self._folder.parent / self.run_id)
        flush_folder(self._folder.parent)
        for path in finished_runs(self._folder.parent)[:-KEPT_ARRAYS]:
            for arrays in path.glob("*.safetensors"):
                arrays.unlink()

    def _append(
        self,
        task: Task,
        plan: Plan,
        outcome: Outcome,
        *,
        participants: int = 0,
        cohort: tuple[str, ...] = (),
        refused: tuple[str, ...] = (),
        reason: str = "",
        arrays: str = "",
    ) -> None:
        entry = Entry(
            number=len(self._entries) + 1,
            task=task,
            plan=plan,
            outcome=outcome,
            participants=participants,
            cohort=cohort,
            refused=refused,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            reason=reason,
            arrays=arrays,
            previous=self._newest,
        )
        content = entry.to_bytes()
        _write(self._place(entry.number), content)
        self._entries.append(entry)
        self._newest = digest_of(content)

    def _arrays_of(self, entry: Entry) -> Totals:
        if entry.outcome is Outcome.VOID:
            return {}
        path = self._place(entry.number).with_suffix(".safetensors")
        try:
            content = path.read_bytes()
            arrays: Totals = load(content)
        except (OSError, SafetensorError, ValueError) as error:
            raise damaged(path.name, f"cannot be read ({type(error).__name__})") from None
        if hashlib.sha256(content).hexdigest() != entry.arrays:
            raise damaged(path.name, "does not hold what was released")
        return arrays

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:04d}.json"


@contextmanager
def opened(
    folder: Path,
    identity: Mapping[str, str],
    *,
    spent_mu2: Callable[[], float],
) -> Iterator[Journal]:
    """Open the run in progress of a folder, or begin one.

    Args:
        identity: digests of what the run is over, by name; a journal over something else is refused.
        spent_mu2: what the coordinator's account holds when a run begins.

    Raises:
        JournalInUse: another coordinator has it.
        ForeignJournal: naming what is different.
        JournalDamaged: naming the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, wait=False) as mine:
        if not mine:
            raise JournalInUse(
                f"another coordinator is writing the journal {folder}; wait until its run is done, or stop it"
            )
        if _idle(folder / CURRENT, identity):
            shutil.rmtree(folder / CURRENT)
        if not (folder / CURRENT).exists():
            _begin(folder, identity, spent_mu2())
        yield Journal(folder / CURRENT, _checked(folder / CURRENT, identity))


def read_entries(folder: Path, previous: str) -> Iterator[tuple[Entry, bytes]]:
    """Yield the entries of one run in order, each checked against the one before it.

    Raises:
        JournalDamaged: naming the first file that is changed, missing or in another's place.
    """
    paths = sorted(folder.glob("[0-9]*.json"))
    for number, path in enumerate(paths, start=1):
        content = path.read_bytes()
        entry = Entry.from_bytes(content, path.name)
        if path.stem != f"{number:04d}" or entry.number != number or entry.previous != previous:
            raise damaged(path.name, f"does not follow entry {number - 1}")
        yield entry, content
        previous = digest_of(content)


def finished_runs(folder: Path) -> list[Path]:
    """Return the folders of the runs that are done, oldest first."""
    done = [path.parent for path in folder.glob(f"*/{OPENING}") if path.parent.name != CURRENT]
    return sorted(done, key=lambda path: (path / OPENING).stat().st_mtime_ns)


def read_opening(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the words that a run began with, and their digest; `JournalDamaged` if they were changed."""
    try:
        content = (folder / OPENING).read_bytes()
    except OSError as error:
        raise damaged(OPENING, f"cannot be read ({type(error).__name__})") from None
    return unsealed(content, OPENING), digest_of(content)


def _begin(folder: Path, identity: Mapping[str, str], spent_mu2: float) -> None:
    """Make a run's folder appear whole or not at all."""
    run = uuid.uuid4().hex
    beside = folder / f".{run}"
    beside.mkdir()
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    words = {
        "format": FORMAT,
        "run": run,
        "begun": begun,
        "identity": dict(identity),
        "spent_mu2": spent_mu2,
    }
    write_durably(beside / OPENING, sealed(words))
    flush_folder(beside)
    beside.rename(folder / CURRENT)
    flush_folder(folder)


def _idle(folder: Path, identity: Mapping[str, str]) -> bool:
    """Return whether a run over something else was begun here that never came to a round."""
    if not folder.exists() or list(folder.glob("[0-9]*.json")):
        return False
    return bool(read_opening(folder)[0]["identity"] != dict(identity))


def _checked(folder: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """Return the words of the opening; `ForeignJournal` if the run is over something else."""
    opening, _ = read_opening(folder)
    known = opening["identity"]
    if other := sorted(name for name in {*known, *identity} if known.get(name) != identity.get(name)):
        raise ForeignJournal(
            f"the journal {folder} was begun with another {' and another '.join(other)}; finish its run with what "
            "it was begun with, or move that folder away and begin a new run: what the ledger has reserved stays "
            "spent"
        )
    return opening


def _write(path: Path, content: bytes) -> None:
    """Put a file in its place durably, whole or not at all."""
    beside = path.with_name(f".{path.name}")
    beside.unlink(missing_ok=True)
    write_durably(beside, content)
    beside.replace(path)
    flush_folder(path.parent)
