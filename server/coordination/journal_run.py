"""Which journal a run keeps: the one in the folder that its configuration names, or none."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from privacy.federation_identity import MANIFEST
from privacy.plan import Plan
from proto.federation import Task
from server.coordination.budget import Account
from server.coordination.config import FederationConfig
from server.coordination.journal import Totals, opened
from server.coordination.journal_entry import Entry

PLACES: Final = frozenset(
    {
        *("catalogue", "ledger", "ledger_keys", "registry", "signing_key", "checkpoints", "journal"),
        *("coordinator_identity", "timeout", "spent_mu2", "minimum_nodes", "offer_version"),
    }
)
"""Words of a run that may differ after a restart: where things lie, and how long to wait."""


class RunJournal(Protocol):
    """What a run remembers over a crash."""

    @property
    def run_id(self) -> str:
        """Name of the run."""

    @property
    def spent_before(self) -> float:
        """What the coordinator's account held when the run began, in mu^2."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that was written, in order."""

    def released(self, number: int) -> tuple[Entry, Totals] | None:
        """Return round `number` with its arrays if it was released."""

    def release(self, task: Task, plan: Plan, arrays: Totals, **answers: Any) -> None:
        """Keep what a round released; `answers` are `participants`, `cohort` and `refused`."""

    def give_up(self, task: Task, plan: Plan, reason: str) -> None:
        """Keep that a round was given up, and why."""

    def finish(self) -> None:
        """The run is done."""


@dataclass(frozen=True, kw_only=True)
class Unjournaled:
    """A run that remembers nothing, in simulations and tests: it begins anew after a crash."""

    spent_before: float
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    entries: tuple[Entry, ...] = ()

    def released(self, number: int) -> None:
        """Nothing was."""

    def release(self, task: Task, plan: Plan, arrays: Totals, **answers: Any) -> None:
        """Keep nothing."""

    def give_up(self, task: Task, plan: Plan, reason: str) -> None:
        """Keep nothing."""

    def finish(self) -> None:
        """There is nothing to put away."""


@contextmanager
def journal_of(config: FederationConfig, account: Account) -> Iterator[RunJournal]:
    """Open the journal of a run for a `with` block; raises as `journal.opened` does."""
    if not config.journal:
        yield Unjournaled(spent_before=account.spent_mu2())
        return
    with opened(Path(config.journal), identity_of(config), spent_mu2=account.spent_mu2) as journal:
        yield journal


def identity_of(config: FederationConfig) -> dict[str, str]:
    """Return digests of what a run is over, by name: a journal goes on over the very same alone."""
    words = {name: str(value) for name, value in asdict(config).items() if name not in PLACES}
    manifest = Path(config.coordinator_identity) / MANIFEST
    return {
        "configuration": hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest(),
        "catalogue": hashlib.sha256(config.catalogue.read_bytes()).hexdigest(),
        "federation manifest": hashlib.sha256(manifest.read_bytes()).hexdigest()
        if config.coordinator_identity
        else "",
    }
