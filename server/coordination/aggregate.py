"""From answers to one sum in the open: what does not fit is refused with a reason before it is added."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from proto.federation import Receipt, Task
from server.coordination.collecting import Collected, Shapes
from server.coordination.exchange import one_line
from server.coordination.influence import Influence
from server.errors import ServerError

Parts = Mapping[str, NDArray[np.generic]]

LONGEST_HEADER: Final = 16 * 1024
"""Bytes that an array's type and shape take at most as it travels."""


class RefusedContribution(ServerError, ValueError):
    """An answer does not fit the round it claims to belong to."""


class CohortTooSmall(ServerError):
    """Fewer participants than the minimum cohort contributed; nothing of the round was released."""


@dataclass(kw_only=True)
class RoundSum:
    """The running sum of one round.

    Attributes:
        task: what was asked.
        shapes: of each part that an answer may hold.
        influence: bounds what one participant may add.
    """

    task: Task
    shapes: Shapes
    influence: Influence
    totals: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    participants: int = 0
    cohort: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, name: str, receipt: Receipt, parts: Parts) -> None:
        """Add the answer of a participant, or note why it was refused."""
        try:
            self._check(name, receipt, parts)
        except RefusedContribution as refusal:
            self.refuse(name, str(refusal))
            return
        for part, value in parts.items():
            self.totals[part] = self.totals.get(part, 0.0) + value.astype(np.float64)
        self.participants += receipt.participants
        self.cohort.append(name)

    def refuse(self, name: str, reason: str) -> None:
        """Note why nothing of a participant is in the sum."""
        self.refused.append(f"{name}: {one_line(reason)}")

    def closed(self, minimum_cohort: int) -> Collected:
        """Return the sum.

        Raises:
            CohortTooSmall: with the reasons of the refused answers.
        """
        check_cohort(self.task, self.participants, minimum_cohort, self.refused)
        zeros = {part: np.zeros(shape) for part, shape in self.shapes.items()}
        return Collected(
            totals={**zeros, **self.totals},
            participants=self.participants,
            cohort=tuple(sorted(self.cohort)),
            refused=tuple(self.refused),
        )

    def _check(self, name: str, receipt: Receipt, parts: Parts) -> None:
        """Raise `RefusedContribution` for a refusal, a stale or foreign answer, a wrong shape or a bad number."""
        check_receipt(self.task, self.influence, name, receipt)
        if not parts:
            raise RefusedContribution("its answer holds no contribution")
        for part, value in parts.items():
            self._check_part(part, value)
        self._check_length(name, receipt.participants, parts)

    def check_room(self, name: str, size: int) -> None:
        """Raise `RefusedContribution` where a part of so many bytes as it travels cannot be one of this sum."""
        self._check_name(name)
        entries = math.prod(self.shapes[name])
        if size > 8 * entries + LONGEST_HEADER:
            raise RefusedContribution(
                f"part {name!r} has {size:,} bytes, too many for its {entries:,} entries"
            )

    def _check_name(self, name: str) -> None:
        if name not in self.shapes:
            raise RefusedContribution(f"part {name!r} is not part of stage {self.task.stage}")

    def _check_part(self, name: str, value: NDArray[np.generic]) -> None:
        self._check_name(name)
        if value.shape != self.shapes[name]:
            raise RefusedContribution(
                f"part {name!r} has shape {value.shape}, the round's is {self.shapes[name]}"
            )
        if value.dtype not in (np.float32, np.float64):
            raise RefusedContribution(
                f"part {name!r} has type {value.dtype}; contributions are float32 or float64"
            )
        if not np.isfinite(value).all():
            raise RefusedContribution(f"part {name!r} holds NaN or infinite values")

    def _check_length(self, name: str, participants: int, parts: Parts) -> None:
        """Refuse what is longer than the shares of all shoppers behind it can be together."""
        shoppers = self.influence.shoppers_behind(name, participants)
        entries = sum(value.size for value in parts.values())
        bound = self.influence.bound(self.task, shoppers, participants, entries)
        with np.errstate(over="ignore"):
            norm = float(np.sqrt(sum(np.square(value.astype(np.float64)).sum() for value in parts.values())))
        if not norm <= bound:
            raise RefusedContribution(
                f"its contribution has norm {norm:.4g}, more than the {bound:.4g} that shares of {shoppers} shoppers "
                f"add to at clipping norm {self.task.clipping_norm:g}"
            )


def check_receipt(task: Task, influence: Influence, name: str, receipt: Receipt) -> None:
    """Raise `RefusedContribution` for a refusal, and for an answer to another question or for too many."""
    if receipt.refused:
        raise RefusedContribution(receipt.refused)
    for word in ("release_id", "stage", "round", "model_hash"):
        asked, answered = getattr(task, word), getattr(receipt, word)
        if asked != answered:
            raise RefusedContribution(f"its answer is for {word} {answered!r}, the round's is {asked!r}")
    if receipt.participants < 1:
        raise RefusedContribution("its answer names no participant")
    most = influence.participants_behind(name)
    if receipt.participants > most:
        raise RefusedContribution(
            f"its answer stands for {receipt.participants} participants; at most {most} can be behind it"
        )


def check_cohort(task: Task, participants: int, minimum_cohort: int, refused: Sequence[str]) -> None:
    """Raise `CohortTooSmall` below the minimum cohort, with the reasons of those who are not in the sum."""
    if participants >= minimum_cohort:
        return
    reasons = "; ".join(sorted(set(refused))) or "wait for more participants, or lower the minimum cohort"
    raise CohortTooSmall(
        f"round {task.round} ({task.stage}) was given up: {participants} participants contributed, the minimum "
        f"cohort is {minimum_cohort}; {reasons}"
    )
