"""How one round of a run is done: what the journal holds is read, the rest is asked, and nothing hangs for ever.

A live round waits for participants, reserves its price, asks, draws noise, writes what it releases to the journal,
and commits. One that gets too few answers is void: what it reserved stays spent, the rest of the budget is split anew
over the rounds to come, and it is asked again under a new release id, a bounded number of times.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from privacy.failpoints import passed
from privacy.plan import Plan, Stage, Trust
from proto.federation import Task
from proto.question import question_hash
from server.coordination.aggregate import CohortTooSmall
from server.coordination.budget import Account, Releaser
from server.coordination.collecting import Collected, Collector, Shapes, Totals
from server.coordination.config import FederationConfig
from server.coordination.exchange import PublicArrays
from server.coordination.federation_plan import RunningPlan
from server.coordination.journal_entry import Entry, JournalError
from server.coordination.journal_run import RunJournal
from server.coordination.status import StatusFile

log = logging.getLogger("fedrank.coordination")

ATTEMPTS: Final = 3
"""How often a round is asked before the run is given up."""
LOOK: Final = 0.5
"""Seconds between two looks at who is connected."""


class JournalDiverged(JournalError):
    """The journal's releases lead this program to another model than the one that asked for the next round."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the rounds of a run work with.

    Attributes:
        present: names of the participants that are connected now.
    """

    config: FederationConfig
    collector: Collector
    present: Callable[[], Collection[str]]
    account: Account
    journal: RunJournal
    status: StatusFile
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Rounds:
    """The rounds of one run, in order.

    Attributes:
        number: of the newest round, from 1.
    """

    def __init__(self, desk: Desk, plan: Plan) -> None:
        """Take the plan that the run was opened with; nothing is asked and nothing is spent yet."""
        self._desk, self._config = desk, desk.config
        self._running = RunningPlan(desk.config, desk.account, plan, desk.journal.spent_before)
        self._releaser, self._id, self.number = Releaser(desk.config, plan), uuid.uuid4().hex, 0
        if desk.journal.entries:
            self._running.outdate()

    @property
    def plan(self) -> Plan:
        """The plan under which the newest round was released, or the next will be asked."""
        return self._running.plan

    def noise_std(self, stage: Stage) -> float:
        """Return the standard deviation of the noise in one entry of what a stage releases under that plan."""
        return self._releaser.under(self.plan).noise_std(stage)

    def performed(self) -> Plan:
        """Return what the run has released, as a plan."""
        return self._running.performed()

    def release(self, stage: Stage, shapes: Shapes, public: PublicArrays) -> Totals:
        """Return what the next round releases, by part; each gets noise of its own.

        Raises:
            CohortTooSmall: too few participants were there, or answered, time after time.
            BudgetError, BudgetExceeded: nothing useful is left to ask with.
            JournalDiverged: the journal belongs to another way of learning.
        """
        self.number += 1
        known = self._desk.journal.released(self.number)
        if known is not None:
            return self._again(stage, public, *known)
        for attempt in range(1, ATTEMPTS + 1):
            task = self._planned(stage, public)
            self._desk.status.asking(task, attempt, self._gathered(task), self._config.timeout)
            try:
                return self._asked(task, shapes, public)
            except CohortTooSmall as failure:
                reason = str(failure)
        raise CohortTooSmall(
            f"{reason}; it was asked {ATTEMPTS} times, and what was reserved stays spent; run again when more "
            "participants are connected: what the run has learned is kept"
        )

    def _again(self, stage: Stage, public: PublicArrays, entry: Entry, arrays: Totals) -> Totals:
        """Take a round from the journal; its commit may be what a crash left out."""
        task, shown = entry.task, question_hash(entry.task, public)
        if (task.stage, task.model_hash) != (str(stage), shown):
            raise JournalDiverged(
                f"round {task.round} of the journal is {task.stage} of model {task.model_hash}, and this program "
                f"comes to {stage} of model {shown}; go on with the version of fedrank, the machine and the number "
                "of threads that began the run, or move the journal away: what the ledger has reserved stays spent"
            )
        self._desk.account.commit(task)
        self._running.released(task, entry.plan)
        log.info("round %d of %d is in the journal: %s", task.round, self._config.all_rounds, stage)
        return arrays

    def _planned(self, stage: Stage, public: PublicArrays) -> Task:
        """Return what the next attempt asks for, priced with what is left."""
        if self._running.refresh():
            log.warning("round %d: what is left of the budget was split anew", self.number)
        task = self._task(stage)
        task = replace(task, model_hash=question_hash(task, public))
        passed("round: planned")
        return task

    def _asked(self, task: Task, shapes: Shapes, public: PublicArrays) -> Totals:
        """Ask once; `CohortTooSmall` leaves whatever was reserved spent."""
        try:
            collected = self._desk.collector.collect(task, shapes, public, lambda: self._reserve(task))
        except CohortTooSmall as failure:
            self._give_up(task, str(failure))
            raise
        passed("round: collected")
        return self._released(task, collected)

    def _released(self, task: Task, collected: Collected) -> Totals:
        """Draw noise, keep the result durably, commit."""
        desk, releaser = self._desk, self._releaser.under(self.plan)
        for reason in sorted(set(collected.refused)):
            log.warning("round %d (%s): %s", task.round, task.stage, reason)
        arrays = {
            name: releaser.released(Stage(task.stage), total) for name, total in collected.totals.items()
        }
        passed("round: noise drawn")
        answers = collected.answers()
        desk.journal.release(task, self.plan, arrays, **answers)
        desk.account.commit(task)
        passed("round: committed")
        desk.status.released(task, **answers)
        self._running.released(task, self.plan)
        return arrays

    def _reserve(self, task: Task) -> None:
        """Spend the price before anybody contributes: participants charge their shoppers when they are asked."""
        self._desk.account.reserve(task)
        passed("round: reserved")

    def _give_up(self, task: Task, reason: str) -> None:
        """Note a void round; the next attempt has another release id and what is left of the budget."""
        log.warning("%s", reason)
        self._desk.journal.give_up(task, self.plan, reason)
        self._desk.status.given_up(reason)
        self._id = uuid.uuid4().hex
        self._running.outdate()

    def _gathered(self, task: Task) -> list[str]:
        """Wait until enough participants are connected, for one deadline at most; return their names."""
        desk, needed = self._desk, self._config.minimum_nodes
        end = desk.clock() + self._config.timeout
        while len(present := sorted(desk.present())) < needed:
            if (left := end - desk.clock()) <= 0:
                raise CohortTooSmall(
                    f"round {task.round} ({task.stage}) was not asked: {len(present)} of at least {needed} nodes are "
                    f"connected ({', '.join(present) or 'none'}) after {self._config.timeout:g} s; start more of them"
                )
            desk.status.waiting(task, present, left)
            desk.sleep(min(LOOK, left))
        passed("round: cohort there")
        return present

    def _task(self, stage: Stage) -> Task:
        config, plan = self._config, self.plan
        release, protected = plan.of(stage), plan.trust is not Trust.NONE
        steps = config.steps if stage is Stage.GRADIENT else 1
        return Task(
            release_id=f"{config.run_name}/{self._id}/{self.number}-{stage}",
            stage=str(stage),
            round=self.number,
            model_hash="",
            trust=str(plan.trust),
            clipping_norm=release.clipping_norm,
            noise_multiplier=release.noise_multiplier or 0.0,
            mu2=release.mu2_each * steps if protected else 0.0,
            cap_mu2=plan.cap_mu2 if protected else 0.0,
            steps=steps,
            expected_shoppers=max(1, config.shoppers // config.merchants),
            clock=config.has_clock,
            loss=str(config.loss),
            seed=config.seed,
            noise_seed=config.noise_seed,
            basket_kinds=config.basket_kinds,
            minimum_cohort=config.minimum_cohort,
        )
