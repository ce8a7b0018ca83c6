"""What must hold in a federation after a kill and the run that followed it."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.store import EventStore
from evaluation.bench.faults_federation_world import CANARY, DEADLINE, MERCHANTS, SHOPPERS, Place, event_ids
from evaluation.bench.faults_scenarios import Damage
from privacy.accountant import mu_of
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at
from privacy.ledger_records import CAP_TOLERANCE, ChargeState
from server.coordination.budget import HOLDER
from server.coordination.journal import CURRENT, OPENING, finished_runs, read_entries, read_opening
from server.coordination.journal_entry import Entry, Outcome
from server.registry import Registry

TIMES: Final = "times"
"""File of the points that each coordinator passed, with its process and the time."""
LONGEST_ROUND: Final = 2 * DEADLINE + 3.0
"""Two deadlines, and what the machine may take to compute a round."""
_BEGUN, _ENDED = "round: cohort there", ("round: collected", "round: planned", "run: learned")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a federation looks like after a kill.

    Attributes:
        recovered: whether a run came to its end and left a version that verifies.
        voided: rounds whose price was reserved and that released nothing.
        stuck: rounds beyond two deadlines.
        exposed: files with an id of a shopper or event in them.
    """

    recovered: bool
    voided: int
    stuck: int
    exposed: int
    damage: Damage


def look(place: Place) -> Found:
    """Look at a federation whose processes have all ended."""
    runs = _runs(place)
    entries = [entry for run in runs for entry in run]
    released = [entry for entry in entries if entry.outcome is Outcome.RELEASED]
    voided, damage = _coordinator_account(place, released)
    for merchant in MERCHANTS:
        damage += _merchant_account(place, merchant, released) + _store(place, merchant)
    damage += Damage(doubled=sum(_released_twice(run) for run in runs))
    return Found(
        recovered=_has_version(place),
        voided=voided,
        stuck=stuck_rounds(_times(place)),
        exposed=len(exposing(place.root)),
        damage=damage,
    )


def finished(place: Place) -> bool:
    """Return whether a run is done, as its coordinator would tell."""
    folder = place.kits.coordinator / "data" / "journal"
    return bool(finished_runs(folder)) and not (folder / CURRENT).exists()


def account_damage(spent: float, due: float, charged: float, cap: float) -> Damage:
    """Hold an account against what was released from it, everything that was charged to it, and its cap.

    What was released and is not in the account is lost; more than the cap, or than all charges, is overspent.
    """
    slack = CAP_TOLERANCE * max(1.0, cap)
    return Damage(lost=int(spent < due - slack), overspent=int(spent > min(cap, charged) + slack))


def stuck_rounds(times: str) -> int:
    """Count the rounds that took longer than two deadlines, by the points that each process passed."""
    begun: dict[str, float] = {}
    stuck = 0
    for line in times.splitlines():
        process, at, point = line.split(maxsplit=2)
        if point in _ENDED and process in begun:
            stuck += float(at) - begun.pop(process) > LONGEST_ROUND
        if point == _BEGUN:
            begun[process] = float(at)
    return stuck


def _times(place: Place) -> str:
    """What coordinators wrote down; those that run as real processes write nothing."""
    file = place.root / TIMES
    return file.read_text(encoding="ascii") if file.exists() else ""


def _runs(place: Place) -> list[list[Entry]]:
    folder = place.coordinator.data / "journal"
    current = [folder / CURRENT] if (folder / CURRENT / OPENING).exists() else []
    places = [*finished_runs(folder), *current]
    return [[entry for entry, _ in read_entries(run, read_opening(run)[1])] for run in places]


def _released_twice(run: list[Entry]) -> int:
    rounds = Counter(entry.task.round for entry in run if entry.outcome is Outcome.RELEASED)
    return sum(count - 1 for count in rounds.values())


def _coordinator_account(place: Place, released: list[Entry]) -> tuple[int, Damage]:
    words = place.words()
    with closing(ledger_at(words["ledger"], words["ledger-keys"])) as ledger:
        ledger.verify()
        charges = {record.charge.release_id: record for record in ledger.charges(HOLDER)}
        spent = ledger.spent(HOLDER)
    left = [entry.task.release_id for entry in released]
    committed = {name for name, record in charges.items() if record.state is ChargeState.COMMITTED}
    due = math.fsum(entry.task.mu2 for entry in released)
    charged = math.fsum(record.charge.mu2 for record in charges.values())
    lost = sum(name not in committed for name in left)
    damage = account_damage(spent, due, charged, _cap(place)) + Damage(lost=lost)
    return len(charges.keys() - set(left)), damage


def _merchant_account(place: Place, merchant: str, released: list[Entry]) -> Damage:
    own = [entry.task for entry in released if merchant in entry.cohort]
    with closing(ledger_at(place.merchant(merchant).data / "ledger.db")) as ledger:
        return _shoppers_damage(ledger, merchant, {task.release_id: task.mu2 for task in own}, _cap(place))


def _shoppers_damage(ledger: Ledger, merchant: str, due: dict[str, float], cap: float) -> Damage:
    ledger.verify()
    charges = {record.charge.release_id: record.charge.mu2 for record in ledger.charges(merchant)}
    spent = ledger.spent_by_subject(merchant)
    lost = sum(f"{name}, {merchant}" not in charges for name in due)
    lost += (SHOPPERS - len(spent)) if due else 0
    sums = math.fsum(due.values()), math.fsum(charges.values())
    accounts = (account_damage(value, *sums, cap) for value in spent.values())
    return sum(accounts, Damage(lost=lost))


def _store(place: Place, merchant: str) -> Damage:
    data = place.merchant(merchant).data
    with (
        closing(Keyring.open(data / "keys")) as keyring,
        EventStore.open(data / "store" / "events.db", keyring, merchant) as store,
    ):
        found, known = Counter(str(name) for name in store.read_columns().event_id), event_ids(merchant)
    return Damage(
        lost=len(known - found.keys()),
        doubled=sum(count - (name in known) for name, count in found.items()),
    )


def _has_version(place: Place) -> bool:
    """Return whether the run is over and everything in every registry verifies; a node may lack the version."""
    made = Registry(place.coordinator.data / "registry").versions()
    for data in (place.coordinator.data, *(place.merchant(name).data for name in MERCHANTS)):
        registry = Registry(data / "registry")
        if not set(registry.versions()) <= set(made):
            return False
        for version in registry.versions():
            registry.get(version)
    return finished(place) and len(made) == 1


def _cap(place: Place) -> float:
    agreed = place.coordinator.federation
    return mu_of(agreed.epsilon, agreed.delta) ** 2


def exposing(root: Path) -> list[Path]:
    """Return the files below a folder in which an id of a shopper or an event can be read."""
    found = []
    for path in root.rglob("*"):
        with suppress(
            FileNotFoundError, IsADirectoryError
        ):  # databases take away what they only need while open
            if CANARY.encode() in path.read_bytes():
                found.append(path)
    return found
