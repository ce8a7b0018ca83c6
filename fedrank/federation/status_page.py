"""How a federation stands, in lines for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from fedrank.printable import printable
from server.coordination.federation_status import Budget, FederationStatus, Round
from server.coordination.status import RunStatus, State

AGAIN_SECONDS: Final = 60.0
"""After so long what has not changed is told again."""


class Progress:
    """Tells how far a run is: a line when it changes, and once a minute while it does not."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is told yet."""
        self._tell, self._clock = tell, clock
        self._line, self._at = "", clock()

    def __call__(self, found: RunStatus) -> None:
        """Look at a status."""
        line, now = _progress(found), self._clock()
        if line != self._line or now - self._at >= AGAIN_SECONDS:
            self._line, self._at = line, now
            self._tell(printable(line))


def _progress(found: RunStatus) -> str:
    attempt = f", attempt {found.attempt}" if found.attempt > 1 else ""
    there = f", {len(found.present)} connected" if found.state is State.WAITING else ""
    return f"round {found.round} of {found.rounds} {found.stage}{attempt}: {found.state}{there}"


def status_page(found: FederationStatus) -> str:
    """Return the lines of a status."""
    return "\n".join(_lines(found))


def _lines(found: FederationStatus) -> Iterator[str]:
    yield f"federation {found.federation}"
    yield _nodes(found)
    yield from _run(found.run) if found.run is not None else ("no run has begun yet",)
    for one in found.rounds:
        yield from _round(one)
    yield _budget(found.budget)
    yield f"model version in service: {found.served or 'none'}; newest: {found.newest or 'none'}"


def _nodes(found: FederationStatus) -> str:
    if found.nodes is None:
        return "nodes: unknown, the coordinator does not run here"
    away = [name for name, there in found.nodes.items() if not there]
    missing = f"; away: {', '.join(away)}" if away else ""
    return f"nodes: {len(found.nodes) - len(away)} of {len(found.nodes)} connected{missing}"


def _run(run: RunStatus) -> Iterator[str]:
    until = f" until {run.deadline}" if run.deadline else ""
    yield f"run {run.run[:8]} began {run.began}: {run.state}{until}; round {run.round} of {run.rounds} {run.stage}"
    for line in run.not_taken:
        yield f"  version not taken by {line}"
    if run.last_error:
        yield f"  last error: {run.last_error}"


def _round(one: Round) -> Iterator[str]:
    yield (
        f"  round {one.round} {one.stage:<9} {one.outcome:<8} {one.participants} participants "
        f"mu^2 {one.mu2:.4g} {one.at}"
    )
    for line in (*one.refused, *((one.reason,) if one.reason else ())):
        yield f"    {line}"


def _budget(budget: Budget) -> str:
    if budget.epsilon is None:
        return "budget: none, trust none promises nothing"
    return (
        f"budget: epsilon {budget.spent_epsilon:.4g} of {budget.epsilon:g} spent at delta {budget.delta:.3g}, "
        f"mu^2 {budget.left_mu2:.4g} left"
    )
