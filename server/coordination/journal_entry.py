"""One line of a run's journal: what a round was asked, under which plan, who answered, and what came of it.

Plain JSON that anybody may read: it holds what is public and nothing else. Each entry names the digest of the one
before it and bears its own, so that none can be changed, removed or put elsewhere without notice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from privacy.plan import Plan, Release, Stage, Trust
from proto.federation import Task, WireError
from server.errors import ServerError

FORMAT = 1


class JournalError(ServerError):
    """The journal of a run cannot be used."""


class JournalDamaged(JournalError):
    """The journal is not what was written: something was changed, removed or put elsewhere."""


class Outcome(StrEnum):
    """What came of a round: its sum was released, or it was given up with its price spent."""

    RELEASED = "released"
    VOID = "void"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One round, or one attempt at it that was given up.

    Attributes:
        number: place in the journal, from 1.
        plan: under which the round was asked; later rounds may have another.
        participants: how many the sum is of.
        cohort: names of those who contributed, where the protocol knows them.
        refused: reasons of answers that were left out, by name where the protocol knows it.
        at: when it was written, ISO 8601 in UTC.
        reason: why a round was given up.
        arrays: SHA-256 of the file of the released arrays; empty for a round that was given up.
        previous: digest of the entry before, or of the journal's opening.
    """

    number: int
    task: Task
    plan: Plan
    outcome: Outcome
    participants: int
    cohort: tuple[str, ...]
    refused: tuple[str, ...]
    at: str
    reason: str
    arrays: str
    previous: str

    def to_bytes(self) -> bytes:
        """Return the entry as JSON with its digest."""
        return sealed({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        """Read an entry; `JournalDamaged` names the file where it is not what was written."""
        words = unsealed(content, name)
        try:
            return cls(
                **{
                    **words,
                    "task": Task.from_record(words["task"]),
                    "plan": plan_of_words(words["plan"]),
                    "outcome": Outcome(words["outcome"]),
                    "cohort": tuple(words["cohort"]),
                    "refused": tuple(words["refused"]),
                }
            )
        except (KeyError, TypeError, ValueError, WireError) as error:
            raise damaged(name, f"is not an entry ({type(error).__name__})") from None


def plan_of_words(words: Mapping[str, Any]) -> Plan:
    """Return the plan that `dataclasses.asdict` made these words of; JSON keeps every bit of a float."""
    releases = tuple(Release(**{**one, "stage": Stage(one["stage"])}) for one in words["releases"])
    return Plan(**{**words, "trust": Trust(words["trust"]), "releases": releases})


def sealed(words: Mapping[str, Any]) -> bytes:
    """Return words as readable JSON that bears its own digest."""
    return json.dumps({**words, "digest": _digest(words)}, indent=1, ensure_ascii=False).encode() + b"\n"


def unsealed(content: bytes, name: str) -> dict[str, Any]:
    """Return the words of `sealed` without digest and format; `JournalDamaged` if they were changed."""
    try:
        words = json.loads(content)
        digest, form = words.pop("digest"), words["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(name, f"cannot be read ({type(error).__name__})") from None
    if form != FORMAT:
        raise damaged(name, f"has format {form!r}, and this fedrank writes {FORMAT}")
    if digest != _digest(words):
        raise damaged(name, "does not have the digest that it was written with")
    words.pop("format")
    return dict(words)


def digest_of(content: bytes) -> str:
    """Return what the next entry names this one by."""
    return hashlib.sha256(content).hexdigest()


def damaged(name: str, finding: str) -> JournalDamaged:
    """Return the error for a file of a journal that is not what was written."""
    return JournalDamaged(
        f"file {name} of the journal {finding}; restore the journal from its backup, or move its folder away and "
        "begin a new run: what the ledger has reserved stays spent"
    )


def _digest(words: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
