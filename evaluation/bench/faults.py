"""`fedrank bench faults`: damaged ciphertext, kills at every failpoint, a full disk, a storm of charges, lies.

Each row counts what must not happen; what it counts, and that it would be seen, tests/evaluation/test_bench_faults.py
shows on planted faults.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from evaluation.bench.faults_charges import charge_storm
from evaluation.bench.faults_damage import Batch, damage, flips, swaps
from evaluation.bench.faults_disk import disk_full
from evaluation.bench.faults_federation_rows import federation_rows
from evaluation.bench.faults_kills import SCENARIOS, Kills, kill_everywhere, points
from evaluation.bench.faults_scenarios import Damage
from evaluation.bench.faults_vault import Vault, Verdict
from evaluation.bench.rows import Row
from evaluation.bench.secure_aggregation_faults import fault_rows
from evaluation.bench.storage import SQLITE, databases, stage_words
from evaluation.bench.storage_bulk import NewDatabase, new_sqlite
from evaluation.bench.storage_world import silence
from evaluation.settings import Watch


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of each fault.

    Attributes:
        changes: bit flips, and again swaps.
        shoppers: of each of two merchants, whose rows are damaged.
        kills: at each failpoint, on each kind of database.
        charges: of single shoppers, presented by several processes at once, on each kind of database.
        seed: of the random damage.
    """

    changes: int = 100_000
    shoppers: int = 200
    kills: int = 25
    charges: int = 1_000_000
    seed: int = 4


PROCESSES: Final = 4
QUICK: Final = Sizes(changes=2_000, kills=1, charges=20_000)


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Do every fault, on SQLite and, where its programs are installed, on PostgreSQL.

    Args:
        quick: a sample; the rows' words say how much.
    """
    sizes = QUICK if quick else Sizes()
    # A killed process leaves what it wrote to the operating system, so nobody has to wait for the disk.
    with databases(durable=False) as kinds:
        rows = [*_damage_rows(sizes, watch), *_kill_rows(kinds, sizes, watch)]
        for name, new in kinds.items():
            rows += _storm_rows(name, new, sizes, watch)
    watch.begin("a full disk", 1)
    rows += damage_rows("SQLite on a full disk", disk_full(), "events", ("lost", "doubled", "unresumed"))
    watch.step()
    rows += federation_rows(times=sizes.kills, quick=quick, watch=watch)
    return [*rows, *fault_rows(quick=quick, watch=watch)]


def _damage_rows(sizes: Sizes, watch: Watch) -> list[Row]:
    rows: list[Row] = []
    rng = random.Random(sizes.seed)
    with new_sqlite() as url, TemporaryDirectory() as folder, silence():
        vault = Vault(url, Path(folder) / "keys", shoppers=sizes.shoppers, rows=12)
        for words, batch in (("random bit flips", flips), ("swaps of ciphertext", swaps)):
            watch.begin(words, sizes.changes)
            made, verdict = _total(vault, rng, sizes.changes, batch, watch)
            rows += verdict_rows(f"{made:,} {words}", verdict)
        vault.close()
    return rows


def _total(vault: Vault, rng: random.Random, wanted: int, batch: Batch, watch: Watch) -> tuple[int, Verdict]:
    made, verdict = 0, Verdict()
    for found in damage(vault, rng, wanted, batch):
        made, verdict = made + found.changes, verdict + found.verdict
        for _ in range(found.changes):
            watch.step()
    return made, verdict


def verdict_rows(words: str, verdict: Verdict) -> list[Row]:
    """Return what a reader made of damage; every target is zero."""
    meaning = {
        "accepted": "accepted",
        "unnamed": "damaged rows of events not named",
        "withheld": "sound rows not served",
    }
    return [
        Row(measure=f"{words}: {word}", value=getattr(verdict, name), unit="rows", target=0, at_least=False)
        for name, word in meaning.items()
    ]


def _kill_rows(kinds: Mapping[str, NewDatabase], sizes: Sizes, watch: Watch) -> list[Row]:
    found: list[Kills] = []
    watch.begin(f"kill -9 {stage_words(kinds)}", len(points()) * len(kinds))
    for name, new in kinds.items():
        with ExitStack() as stack:
            urls = ["" if name == SQLITE else stack.enter_context(new()) for _ in points()]
            for kills in kill_everywhere(urls, sizes.kills):
                found.append(kills)
                watch.step()
    words = " and ".join(kinds)
    return [row for operation in SCENARIOS for row in kill_rows(words, operation, found)]


def kill_rows(kinds: str, operation: str, found: list[Kills]) -> list[Row]:
    """Return what the kills of one operation did; every target but the number of kills is zero."""
    own = [kills for kills in found if kills.operation == operation]
    names = sorted({kills.failpoint for kills in own})
    words = f"{operation}, kill -9 at {len(names)} points on {kinds}"
    reached = Row(
        measure=f"{words}: kills",
        value=sum(kills.killed for kills in own),
        unit="kills",
        target=sum(kills.wanted for kills in own),
    )
    total = sum((kills.damage for kills in own), Damage())
    fields = ("lost", "doubled", *(("overspent",) if operation == "charge" else ()), "unresumed")
    return [reached, *damage_rows(words, total, "charges" if operation == "charge" else "events", fields)]


def _storm_rows(name: str, new: NewDatabase, sizes: Sizes, watch: Watch) -> list[Row]:
    with new() as url, TemporaryDirectory() as folder:
        storm = charge_storm(
            url, Path(folder) / "keys", processes=PROCESSES, charges=sizes.charges, watch=watch
        )
    words = f"{name}: {sizes.charges:,} concurrent charges from {PROCESSES} processes"
    found = {
        "accounts beyond the cap": storm.overspent,
        "accounts that hold another sum than was acknowledged": storm.unlike,
    }
    rows = [
        Row(measure=f"{words}: {word}", value=value, unit="accounts", target=0, at_least=False)
        for word, value in found.items()
    ]
    presented = Row(
        measure=f"{words}: presented", value=storm.requested, unit="charges", target=sizes.charges
    )
    return [presented, *rows, Row(measure=f"{words}: refused", value=storm.refused, unit="releases")]


def damage_rows(words: str, damage: Damage, what: str, fields: tuple[str, ...]) -> list[Row]:
    """Return some counts of damage to events or charges; every target is zero."""
    units = {"lost": what, "doubled": what, "overspent": "accounts", "unresumed": "times"}
    return [
        Row(
            measure=f"{words}: {name}",
            value=getattr(damage, name),
            unit=units[name],
            target=0,
            at_least=False,
        )
        for name in fields
    ]
