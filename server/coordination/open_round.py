"""A round in the open: every answer is seen by itself, checked and added."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from proto.federation import CONTRIBUTION, PUBLIC, RECEIPT, TASK, Receipt, Task, WireError
from server.coordination.aggregate import RefusedContribution, RoundSum
from server.coordination.collecting import Collected, Shapes, with_layout
from server.coordination.exchange import Exchange, PublicArrays
from server.coordination.influence import Influence
from server.coordination.tensors import tensor_of


@dataclass(frozen=True, kw_only=True)
class OpenCollector:
    """Asks everybody who is there and adds what fits."""

    exchange: Exchange
    influence: Influence
    minimum_cohort: int

    def collect(
        self, task: Task, shapes: Shapes, public: PublicArrays, charge: Callable[[], None]
    ) -> Collected:
        """Return the sum of the answers that came in time; see `Collector`."""
        charge()
        task = with_layout(task, shapes)
        round_sum = RoundSum(task=task, shapes=shapes, influence=self.influence)
        questions = training_questions(task, public, self.exchange.participants())
        unheard = set(questions)
        for answer in self.exchange.ask(f"train.{task.stage}", str(task.round), questions):
            unheard.discard(answer.participant)
            if answer.content is None:
                round_sum.refuse(answer.participant, answer.fault)
            else:
                _add(round_sum, answer.participant, answer.content)
        for name in sorted(unheard):
            round_sum.refuse(name, "no answer came in time")
        return round_sum.closed(self.minimum_cohort)


def training_questions(
    task: Task, public: PublicArrays, participants: Iterable[str]
) -> dict[str, RecordDict]:
    """Return one question per participant; the arrays are shared, the scalars are each message's own."""
    arrays = ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in public.items()})
    return {
        name: RecordDict({TASK: ConfigRecord(dict(task.to_record())), PUBLIC: arrays})
        for name in participants
    }


def _add(round_sum: RoundSum, name: str, content: RecordDict) -> None:
    try:
        receipt = Receipt.from_record(content.config_records[RECEIPT])
    except (KeyError, WireError) as fault:
        round_sum.refuse(name, f"its answer has no valid receipt: {fault}")
        return
    try:
        parts = _parts(content, round_sum)
    except RefusedContribution as fault:
        round_sum.refuse(name, str(fault))
        return
    round_sum.add(name, receipt, parts)


def _parts(content: RecordDict, round_sum: RoundSum) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an answer; raises `RefusedContribution` for what has no place in the sum, unread.

    One array may stand under any number of names: read, each is an array of its own.
    """
    records = content.array_records
    found = dict(records[CONTRIBUTION]) if CONTRIBUTION in records else {}
    for name, array in found.items():
        round_sum.check_room(name, len(array.data))
    return {name: tensor_of(array) for name, array in found.items()}
