"""The plan of a run that goes on after a crash or a void round: what is left of the budget is split anew."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from privacy.plan import Plan, Release, Stage, Trust, make_plan
from proto.federation import Task
from server.coordination.budget import Account, ceiling_of, remedy_of
from server.coordination.config import FederationConfig


class RunningPlan:
    """The plan in force, and what has been released under it and those before it.

    Attributes:
        plan: in force now.
    """

    def __init__(self, config: FederationConfig, account: Account, opening: Plan, begun_mu2: float) -> None:
        """Begin with the plan that the run was opened with, when the account held `begun_mu2`."""
        self._config, self._account, self._begun_mu2 = config, account, begun_mu2
        self._opening, self.plan = opening, opening
        self._released: list[Task] = []
        self._stale, self._straight = False, True

    def outdate(self) -> None:
        """Price was spent, or may have been, that the plan in force does not know of."""
        self._stale, self._straight = True, False

    def refresh(self) -> bool:
        """Split what is left over the releases to come if the plan is out of date; return whether it was.

        Raises:
            BudgetError: nothing useful is left.
        """
        stale, self._stale = self._stale, False
        if stale:
            self.plan = make_plan(
                trust=self._config.trust,
                epsilon=self._config.epsilon,
                delta=self._config.delta,
                counts=self._to_come(),
                spent_mu2=self._spent_mu2(),
                ceiling_mu2=ceiling_of(self._config, self._opening.spent_mu2),
                remedy=remedy_of(self._config),
            )
        return stale

    def released(self, task: Task, plan: Plan) -> None:
        """Note a release, and the plan that it was made under."""
        self._released.append(task)
        self.plan = plan

    def performed(self) -> Plan:
        """Return what the run did in place of what it meant to do: the same plan if nothing went wrong.

        What was spent on rounds that were given up counts as spent before.
        """
        if self._config.trust is Trust.NONE or self._straight:
            return self._opening
        done = tuple(_joined(self._apart(), self._released))
        price = math.fsum(release.mu2 for release in done)
        total = self._spent_mu2()
        return replace(self._opening, spent_mu2=max(0.0, total - price), releases=done)

    def _to_come(self) -> dict[Stage, int]:
        """Return how often each stage will still cost a shopper's budget."""
        counts = dict(self._config.releases)
        counts.pop(Stage.LINKAGE, None)  # released before the first round, by whoever counts it
        for task in self._released:
            counts[Stage(task.stage)] -= task.steps
        return counts

    def _apart(self) -> list[Release]:
        """Return what the opening plan releases outside the coordinator's account."""
        return [release for release in self._opening.releases if release.stage is Stage.LINKAGE]

    def _spent_mu2(self) -> float:
        """Return the most that a shopper has spent, by the coordinator's account or by the participants'."""
        if self._config.trust is Trust.NONE:
            return 0.0
        now = self._account.spent_mu2()
        apart = math.fsum(release.mu2 for release in self._apart())
        return max(now, self._config.spent_mu2 + now - self._begun_mu2) + apart


def _joined(first: Iterable[Release], tasks: Iterable[Task]) -> Iterable[Release]:
    """Yield the releases, with rounds of one stage at one price counted together."""
    yield from first
    counts: dict[tuple[str, float, float], int] = {}
    for task in tasks:
        key = (task.stage, task.clipping_norm, task.noise_multiplier)
        counts[key] = counts.get(key, 0) + task.steps
    for (stage, clipping_norm, multiplier), count in counts.items():
        yield Release(
            stage=Stage(stage), clipping_norm=clipping_norm, noise_multiplier=multiplier, count=count
        )
