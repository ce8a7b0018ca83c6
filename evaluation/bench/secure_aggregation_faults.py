"""Secure aggregation under lies and under a bad network: adversarial runs, and random schedules on one mock clock."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from evaluation.bench.rows import Row
from evaluation.bench.secure_adversary import Adversary
from evaluation.bench.secure_attacks import ATTACKS
from evaluation.bench.secure_schedules import Found, random_schedule
from evaluation.bench.secure_world import World
from evaluation.settings import Watch

SHOPS: Final = 7
"""Members of an attacked round: up to two of them are on the coordinator's side."""
SMALLEST_SCHEDULE, LARGEST_SCHEDULE = 3, 5
"""Members of the rounds on a bad network."""


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What adversarial runs came to.

    Attributes:
        runs: that were made.
        revealed: in which the sum of too few honest participants could be worked out.
        unnoticed: in which no honest participant refused anything.
        refusals: of honest participants.
    """

    runs: int
    revealed: int
    unnoticed: int
    refusals: int


def adversarial_runs(count: int, *, seed: int = 6, watch: Watch | None = None) -> Attacked:
    """Run every attack in turn, so often in all, with sides and victims at random."""
    rng, world = random.Random(seed), World.make(SHOPS, minimum_cohort=3)
    watch = watch or Watch()
    watch.begin("attacks on secure aggregation", count)
    attacks, verdicts = list(ATTACKS.values()), []
    for number in range(count):
        verdict = Adversary(world, rng).run(attacks[number % len(attacks)])
        verdicts.append((verdict.revealed, verdict.refusals))
        watch.step()
    return Attacked(
        runs=count,
        revealed=sum(revealed for revealed, _ in verdicts),
        unnoticed=sum(refusals == 0 for _, refusals in verdicts),
        refusals=sum(refusals for _, refusals in verdicts),
    )


def schedules(count: int, *, seed: int = 6, watch: Watch | None = None) -> Found:
    """Run so many random schedules of one or two rounds each."""
    rng = random.Random(seed)
    worlds = [World.make(size) for size in range(SMALLEST_SCHEDULE, LARGEST_SCHEDULE + 1)]
    watch = watch or Watch()
    watch.begin("rounds of secure aggregation on a bad network", count)
    found = Found()
    for number in range(count):
        found += random_schedule(worlds[number % len(worlds)], rng)
        watch.step()
    return found


def fault_rows(*, quick: bool, watch: Watch) -> list[Row]:
    """Return both as rows: 10^4 attacks and 10^5 schedules; `quick` does a hundredth of them."""
    share = 100 if quick else 1
    return [
        *attack_rows(adversarial_runs(10_000 // share, watch=watch)),
        *schedule_rows(100_000 // share, schedules(100_000 // share, watch=watch)),
    ]


def attack_rows(found: Attacked) -> list[Row]:
    """Return what attacks came to; both targets are zero."""
    words = f"secure aggregation, {found.runs:,} runs of {len(ATTACKS)} attacks"
    return [
        _zero(f"{words}: sums of too few participants worked out", found.revealed, "runs"),
        _zero(f"{words}: nobody refused", found.unnoticed, "runs"),
        Row(measure=f"{words}: refusals of honest participants", value=found.refusals, unit="refusals"),
    ]


def schedule_rows(count: int, found: Found) -> list[Row]:
    """Return what schedules came to; what must not happen has the target zero."""
    words = f"secure aggregation, {count:,} random schedules"
    return [
        _zero(f"{words}: sums that are not exact", found.inexact, "sums"),
        _zero(f"{words}: contributions counted twice", found.doubled, "sums"),
        _zero(f"{words}: rounds stuck", found.stuck, "rounds"),
        Row(measure=f"{words}: sums released", value=found.released, unit="rounds"),
        Row(measure=f"{words}: rounds given up", value=found.voided, unit="rounds"),
    ]


def _zero(measure: str, value: float, unit: str) -> Row:
    return Row(measure=measure, value=value, unit=unit, target=0, at_least=False)
