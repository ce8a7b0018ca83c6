"""What a round is to the coordinator: a question to the cohort, and one sum over those who answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proto.federation import Task
from server.coordination.exchange import PublicArrays

Shapes = dict[str, tuple[int, ...]]
Totals = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The sum of one round.

    Attributes:
        totals: sum by part, one array for every part that was asked for.
        participants: how many the sum holds.
        refused: why an answer is not in it, each naming its participant.
    """

    totals: Totals
    participants: int
    refused: tuple[str, ...]


class Collector(Protocol):
    """One way of making a sum: in the open, or under masks."""

    def collect(self, task: Task, shapes: Shapes, public: PublicArrays) -> Collected:
        """Ask the cohort and return its sum; raises `CohortTooSmall` where too few can be in it."""
