"""One bucket of a secure round: its answers are counted once, its sum is bounded, and its members are named."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import PrivacyError
from privacy.secagg.coordinator import Aggregation, Phase
from privacy.secagg.encoding import decode
from privacy.secagg.messages import Advertisement, Confirmation, Masked, Message, Shares, Unmasking
from proto.federation import MASKED, REASON, RECEIPT, REFUSAL, SECURE, Receipt, Task, WireError
from server.coordination.aggregate import CohortTooSmall, RefusedContribution, check_cohort, check_receipt
from server.coordination.buckets import BucketSum
from server.coordination.collecting import Shapes
from server.coordination.exchange import Answer, one_line
from server.coordination.influence import Influence
from server.coordination.tensors import tensor_of

log = logging.getLogger("fedrank.coordination")

ANSWERS: Final[Mapping[Phase, type[Message]]] = {
    Phase.ADVERTISE: Advertisement,
    Phase.SHARE: Shares,
    Phase.CONTRIBUTE: Masked,
    Phase.CONFIRM: Confirmation,
    Phase.UNMASK: Unmasking,
}


@dataclass(kw_only=True)
class Bucket:
    """One secure sum.

    Attributes:
        questions: of the phase that is open, by name; empty once the bucket is given up or done.
        refused: why participants, or all of them, are not in the sum.
        is_open: whether there may still be a sum, or is one.
    """

    task: Task
    aggregation: Aggregation
    influence: Influence
    questions: Mapping[str, Message] = field(init=False)
    refused: list[str] = field(default_factory=list)
    is_open: bool = True
    _behind: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Invite the cohort."""
        self.questions = self.aggregation.begin()

    def take(self, answer: Answer) -> None:
        """Take an answer of the open phase, or note by name why it was refused."""
        try:
            self._accept(answer)
        except (KeyError, PrivacyError, WireError, RefusedContribution) as fault:
            self._note(answer.participant, _words(fault))

    def close(self) -> None:
        """End the phase; whoever has not answered is out, and a bucket that has lost too many is given up."""
        if not self.questions:
            return
        for name in sorted(self.aggregation.awaited - self._told):
            self._note(name, f"no answer to {self.aggregation.phase} came in time")
        self.questions = {}
        if self.aggregation.phase is Phase.UNMASK:
            return
        try:
            self.questions = self.aggregation.close()
            if self.aggregation.phase is Phase.CONFIRM:
                check_cohort(self.task, self._participants, self.task.minimum_cohort, self.refused)
        except (PrivacyError, CohortTooSmall) as loss:
            self._give_up(str(loss))

    def sum(self, shapes: Shapes) -> BucketSum | None:
        """Return the sum by part, or None for a bucket that was given up."""
        if not self.is_open:
            return None
        manifest = self.aggregation.manifest
        try:
            values = decode(self.aggregation.finish(), manifest.step)
            self._check_length(values)
        except (PrivacyError, RefusedContribution) as fault:
            self._give_up(str(fault))
            return None
        for complaint in self.aggregation.complaints:
            log.warning("round %d (%s): %s", self.task.round, self.task.stage, complaint)
        parts = manifest.parts(values)
        totals = {
            name: np.reshape(parts[name], shape).astype(np.float64) if name in parts else np.zeros(shape)
            for name, shape in shapes.items()
        }
        return BucketSum(totals=totals, participants=self._participants)

    @property
    def _participants(self) -> int:
        return sum(self._behind[name] for name in self.aggregation.survivors)

    def _accept(self, answer: Answer) -> None:
        """Hand an answer to the protocol; one with a contribution needs a receipt for this very task."""
        name, phase = answer.participant, self.aggregation.phase
        if answer.content is None:
            raise RefusedContribution(answer.fault)
        records = answer.content.config_records
        record: dict[str, Any] = dict(records.get(SECURE, {}))
        if REFUSAL in records:
            raise RefusedContribution(str(records[REFUSAL].get(REASON)))
        if phase is Phase.CONTRIBUTE:
            receipt = Receipt.from_record(records[RECEIPT])
            check_receipt(self.task, self.influence, name, receipt)
            self._behind[name] = receipt.participants
            record["content"] = tensor_of(answer.content.array_records[MASKED][MASKED]).tobytes()
        self.aggregation.accept(name, ANSWERS[phase].from_record(record))

    def _check_length(self, values: NDArray[np.float64]) -> None:
        """Refuse a sum that is longer than the shares of all its shoppers can be together."""
        survivors = self.aggregation.survivors
        shoppers = sum(self.influence.shoppers_behind(name, self._behind[name]) for name in survivors)
        bound = self.influence.bound(self.task, shoppers, self._participants, values.size)
        norm = float(np.linalg.norm(values))
        if not norm <= bound:
            raise RefusedContribution(
                f"their sum has norm {norm:.4g}, more than the {bound:.4g} that shares of {shoppers} shoppers add to "
                f"at clipping norm {self.task.clipping_norm:g}; some of them sent what no honest participant sends"
            )

    def _note(self, name: str, reason: str) -> None:
        """Say why a participant is not in the sum; after it has contributed it is, whatever it does."""
        self._told.add(name)
        reason = one_line(reason)
        if name in self.aggregation.survivors:
            log.warning(
                "round %d (%s): %s dropped out after it contributed: %s",
                self.task.round,
                self.task.stage,
                name,
                reason,
            )
        else:
            self.refused.append(f"{name}: {reason}")

    def _give_up(self, reason: str) -> None:
        """Leave the whole bucket out, by the names of all who could still have been in it."""
        members = self.aggregation.survivors or self.aggregation.manifest.cohort
        self.questions, self.is_open = {}, False
        self.refused.append(f"{', '.join(members)} together: {reason}")


def _words(fault: Exception) -> str:
    return f"its answer lacks the record {fault}" if isinstance(fault, KeyError) else str(fault)
