"""From answers to one sum: everything that does not fit is refused with a reason before it is added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from proto.federation import Receipt, Task
from server.errors import ServerError

Parts = Mapping[str, NDArray[np.generic]]


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
        largest: bound on an entry that bounded shares of all shoppers can reach.
    """

    task: Task
    shapes: Mapping[str, tuple[int, ...]]
    largest: float = math.inf
    totals: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    participants: int = 0
    refused: list[str] = field(default_factory=list)

    def add(self, receipt: Receipt, parts: Parts) -> None:
        """Add one answer, or note why it was refused."""
        try:
            self._check(receipt, parts)
        except RefusedContribution as refusal:
            self.refused.append(str(refusal))
            return
        for name, value in parts.items():
            self.totals[name] = self.totals.get(name, 0.0) + value.astype(np.float64)
        self.participants += receipt.participants

    def closed(self, minimum_cohort: int) -> dict[str, NDArray[np.float64]]:
        """Return the sum by part.

        Raises:
            CohortTooSmall: with the reasons of the refused answers.
        """
        if self.participants < minimum_cohort:
            reasons = (
                "; ".join(sorted(set(self.refused)))
                or "wait for more participants, or lower the minimum cohort"
            )
            raise CohortTooSmall(
                f"round {self.task.round} ({self.task.stage}) was given up: {self.participants} participants "
                f"contributed, the minimum cohort is {minimum_cohort}; {reasons}"
            )
        return self.totals

    def _check(self, receipt: Receipt, parts: Parts) -> None:
        """Raise `RefusedContribution` for a refusal, a stale or foreign answer, a wrong shape or a bad number."""
        if receipt.refused:
            raise RefusedContribution(receipt.refused)
        for name in ("release_id", "stage", "round", "model_hash"):
            asked, answered = getattr(self.task, name), getattr(receipt, name)
            if asked != answered:
                raise RefusedContribution(f"an answer is for {name} {answered!r}, the round's is {asked!r}")
        if receipt.participants < 1 or not parts:
            raise RefusedContribution("an answer names no participant or holds no contribution")
        for name, value in parts.items():
            self._check_part(name, value)

    def _check_part(self, name: str, value: NDArray[np.generic]) -> None:
        if name not in self.shapes:
            raise RefusedContribution(f"part {name!r} is not part of stage {self.task.stage}")
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
        if np.abs(value).max(initial=0.0) > self.largest:
            raise RefusedContribution(
                f"part {name!r} holds a value above {self.largest:.4g}, more than all shares add to"
            )
