"""What a round is to the coordinator: a question to the cohort, and one sum over those who answered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from proto.federation import Task, layout_words
from server.coordination.exchange import PublicArrays

Shapes = dict[str, tuple[int, ...]]
Totals = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The sum of one round.

    Attributes:
        totals: sum by part, one array for every part that was asked for.
        participants: how many the sum holds.
        cohort: names of those whose answers it holds.
        refused: why an answer is not in it, each naming its participant.
    """

    totals: Totals
    participants: int
    cohort: tuple[str, ...]
    refused: tuple[str, ...]

    def answers(self) -> dict[str, Any]:
        """Return everything but the sum: what the journal and the status say of a round."""
        return {"participants": self.participants, "cohort": self.cohort, "refused": self.refused}


def with_layout(task: Task, shapes: Shapes, *, secure: bool = False) -> Task:
    """Return the task with the layout of its sum."""
    lengths = {name: math.prod(shape) for name, shape in shapes.items()}
    return replace(task, layout=layout_words(lengths), secure=secure)


class Collector(Protocol):
    """One way of making a sum: in the open, or under masks."""

    def collect(
        self, task: Task, shapes: Shapes, public: PublicArrays, charge: Callable[[], None]
    ) -> Collected:
        """Ask the cohort and return its sum; raises `CohortTooSmall` where too few can be in it.

        `charge` is called once, right before the first participant is asked for what costs budget.
        """
