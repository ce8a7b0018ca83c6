"""A round under masks: the coordinator asks the five phases of secure aggregation, and sees sums of buckets only."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from privacy.failpoints import passed
from privacy.federation_identity import Identity
from privacy.secagg.coordinator import Aggregation, Phase
from proto.federation import RELEASE_ID, SECURE, Task
from server.coordination.aggregate import CohortTooSmall
from server.coordination.buckets import Buckets
from server.coordination.collecting import Collected, Shapes, with_layout
from server.coordination.exchange import Exchange, PublicArrays
from server.coordination.influence import Influence
from server.coordination.open_round import training_questions
from server.coordination.secure_bucket import Bucket
from server.coordination.secure_manifest import round_manifest

log = logging.getLogger("fedrank.coordination")

PHASES = (Phase.ADVERTISE, Phase.SHARE, Phase.CONTRIBUTE, Phase.CONFIRM, Phase.UNMASK)
PROTOCOL_SHARE = 1 / (len(PHASES) - 1)
"""Of the deadline, for each phase in which nobody computes: a whole round takes two deadlines at most."""


@dataclass(frozen=True, kw_only=True)
class SecureCollector:
    """Makes one secure sum for each bucket of those who are there.

    Attributes:
        identity: reads who the coordinator is, and whose certificates are revoked by now.
        draw: deals the cohort into buckets.
    """

    exchange: Exchange
    influence: Influence
    buckets: Buckets
    identity: Callable[[], Identity]
    draw: random.Random

    def collect(
        self, task: Task, shapes: Shapes, public: PublicArrays, charge: Callable[[], None]
    ) -> Collected:
        """Return the sum over everybody who contributed in a bucket that closed; see `Collector`."""
        task = with_layout(task, shapes, secure=True)
        dealt = self.buckets.dealt(list(self.exchange.participants()), self.draw)
        buckets = self._prepared(task, dealt)
        for phase in PHASES:
            if phase is Phase.CONTRIBUTE and any(bucket.is_open for bucket in buckets):
                charge()
            self._asked(phase, task, public, buckets)
            passed(f"secure: {phase} closed")
        return self._closed(task, shapes, buckets)

    def _prepared(self, task: Task, dealt: Sequence[tuple[str, ...]]) -> list[Bucket]:
        identity, buckets = self.identity(), []
        for cohort in dealt:
            manifest = round_manifest(
                task, cohort, self.buckets.smallest, identity.federation, self.influence
            )
            aggregation = Aggregation(manifest=manifest, signer=identity.signer, trusted=identity.trusted)
            buckets.append(Bucket(task=task, aggregation=aggregation, influence=self.influence))
        return buckets

    def _asked(self, phase: Phase, task: Task, public: PublicArrays, buckets: Sequence[Bucket]) -> None:
        """Ask all buckets' questions of a phase at once, and close it in each."""
        of = {name: bucket for bucket in buckets for name in bucket.questions}
        contributing = phase is Phase.CONTRIBUTE
        questions = training_questions(task, public, of) if contributing else {}
        for name, bucket in of.items():
            record: dict[str, Any] = {**bucket.questions[name].to_record(), RELEASE_ID: task.release_id}
            questions.setdefault(name, RecordDict())[SECURE] = ConfigRecord(record)
        kind = f"train.{task.stage}" if contributing else f"query.{phase}"
        share = 1.0 if contributing else PROTOCOL_SHARE
        for answer in self.exchange.ask(kind, task.release_id, questions, share=share):
            of[answer.participant].take(answer)
        for bucket in buckets:
            bucket.close()

    def _closed(self, task: Task, shapes: Shapes, buckets: Sequence[Bucket]) -> Collected:
        """Make one sum of those of the buckets."""
        sums = [found for bucket in buckets if (found := bucket.sum(shapes)) is not None]
        refused = tuple(reason for bucket in buckets for reason in bucket.refused)
        try:
            total = self.buckets.combined(sums)
        except CohortTooSmall as few:
            reasons = "; ".join((str(few), *refused))
            raise CohortTooSmall(f"round {task.round} ({task.stage}) was given up: {reasons}") from None
        cohort = sorted(name for bucket in buckets if bucket.is_open for name in bucket.aggregation.survivors)
        return Collected(
            totals=total.totals, participants=total.participants, cohort=tuple(cohort), refused=refused
        )
