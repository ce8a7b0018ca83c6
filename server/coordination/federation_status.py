"""How a federation stands, read from what its coordinator writes: status, journal, account and registry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from privacy.accountant import epsilon_of
from privacy.plan import Trust, budget_mu2, gaussian_delta
from server.coordination.budget import Account
from server.coordination.config import FederationConfig
from server.coordination.journal import CURRENT, finished_runs, read_entries, read_opening
from server.coordination.journal_entry import Entry
from server.coordination.status import RunStatus
from server.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Round:
    """One line of the round log."""

    run: str
    round: int
    stage: str
    outcome: str
    at: str
    participants: int
    cohort: tuple[str, ...]
    refused: tuple[str, ...]
    reason: str
    mu2: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a shopper has granted and what is spent; epsilon is null under trust `none`, where nothing is charged."""

    epsilon: float | None
    delta: float
    spent_epsilon: float | None
    spent_mu2: float
    left_mu2: float | None


@dataclass(frozen=True, kw_only=True)
class FederationStatus:
    """Everything that `fedrank federation status` tells.

    Attributes:
        run: of the newest run; None before the first.
        rounds: of the newest run, those that were given up included.
        served, newest: model versions; None where there is none.
        nodes: whether each member's node is connected; None where the SuperLink does not run.
    """

    federation: str
    run: RunStatus | None
    rounds: tuple[Round, ...]
    budget: Budget
    served: str | None
    newest: str | None
    nodes: Mapping[str, bool] | None


def federation_status(
    config: FederationConfig, account: Account | None, nodes: Mapping[str, bool] | None
) -> FederationStatus:
    """Read how a federation stands; raises `JournalDamaged`, `StatusUnreadable` or `RegistryError`."""
    registry, journal = Registry(config.registry), Path(config.journal)
    versions = registry.versions()
    return FederationStatus(
        federation=config.run_name,
        run=RunStatus.read(journal),
        rounds=newest_rounds(journal),
        budget=budget_of(config, 0.0 if account is None else account.spent_mu2()),
        served=registry.promoted(),
        newest=versions[-1] if versions else None,
        nodes=nodes,
    )


def newest_rounds(journal: Path) -> tuple[Round, ...]:
    """Return the rounds of the run in progress, or of the one before."""
    done = finished_runs(journal)
    for folder in (journal / CURRENT, *done[-1:]):
        if folder.exists():
            opening, digest = read_opening(folder)
            return tuple(_line(str(opening["run"]), entry) for entry, _ in read_entries(folder, digest))
    return ()


def budget_of(config: FederationConfig, spent_mu2: float) -> Budget:
    """Return the budget of a federation whose account holds so much."""
    if config.trust is Trust.NONE:
        return Budget(epsilon=None, delta=config.delta, spent_epsilon=None, spent_mu2=0.0, left_mu2=None)
    cap = budget_mu2(config.trust, config.epsilon, config.delta)
    delta = gaussian_delta(config.trust, config.delta)
    return Budget(
        epsilon=config.epsilon,
        delta=config.delta,
        spent_epsilon=epsilon_of(math.sqrt(spent_mu2), delta) if spent_mu2 else 0.0,
        spent_mu2=spent_mu2,
        left_mu2=max(0.0, cap - spent_mu2),
    )


def _line(run: str, entry: Entry) -> Round:
    return Round(
        run=run,
        round=entry.task.round,
        stage=entry.task.stage,
        outcome=str(entry.outcome),
        at=entry.at,
        participants=entry.participants,
        cohort=entry.cohort,
        refused=entry.refused,
        reason=entry.reason,
        mu2=entry.task.mu2,
    )
