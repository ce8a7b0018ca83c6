"""How long answers take at half the peak, at the peak, under ten times the peak, and how soon it is over afterwards.

The load is open: calls come at random moments at a rate that nothing slows down. A caller holds four connections,
has no more calls under way than the endpoint allows on them, and fails a further call at once, as `client.ranking`
does. Such a call was never sent: it counts as not answered, and is none of the accepted.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from evaluation.bench.ranking_ratio import DISTINCT, saturate
from evaluation.bench.ranking_servers import Server, load
from evaluation.bench.ranking_world import World, questions
from evaluation.bench.rows import Row
from evaluation.load.http2 import UNSENT
from evaluation.load.plan import OK, Outcome, Phase, Plan

HALF, PEAK, OVERLOAD, AFTER = 1, 2, 3, 4
"""Phases of a storm; phase 0 warms up."""
TIMES = 10
DEADLINE_S = 0.5
WINDOW_S = 1.0
GOODPUT_TARGET, ACCEPTED_TARGET, RECOVERY_TARGET_S = 0.9, 2.0, 10.0
P99_TARGET_MS, SPREAD_TARGET = 10.0, 4.0


@dataclass(frozen=True, kw_only=True)
class Storm:
    """What came of one storm; `peak` in answers per second, measured just before it."""

    peak: float
    outcome: Outcome

    @property
    def goodput(self) -> float:
        """Answers in time under overload, as a share of the peak."""
        return self.outcome.goodput(OVERLOAD) / self.peak

    def p99(self, phase: int) -> float:
        """Seconds from when a call was due to its answer, for 99 of 100 answered calls."""
        return self.outcome.latency(phase, 0.99)

    def recovery(self) -> float:
        """Seconds after the overload until a second's calls are all answered, as fast as at the peak.

        Where that never came, the whole time that was watched.
        """
        found = self.outcome
        start, end = float(found.begins[AFTER]), float(found.begins[AFTER + 1])
        for window in np.arange(start, end - WINDOW_S, WINDOW_S / 4).tolist():
            mine = (found.due >= window) & (found.due < window + WINDOW_S)
            if not mine.any() or (found.status[mine] != OK).any():
                continue
            if np.quantile(found.done[mine] - found.due[mine], 0.99) <= self.p99(PEAK):
                return float(window - start)
        return end - start


def storm(server: Server, world: World, *, seconds: float, after: float, waits: bool = False) -> Storm:
    """Find the peak, then load the endpoint with half of it, all of it, ten times as much, and half again."""
    bodies = questions(world, DISTINCT)
    peak = statistics.median(saturate(server, bodies, world.folder, seconds / 2).goodput(1) for _ in range(3))
    phases = (
        Phase(seconds=1, rate=peak / 2),
        Phase(seconds=2 * seconds, rate=peak / 2),
        Phase(seconds=seconds, rate=peak),
        Phase(seconds=seconds, rate=TIMES * peak),
        Phase(seconds=after, rate=peak / 2),
    )
    plan = Plan(port=0, phases=phases, deadline_s=DEADLINE_S, waits=waits)
    return Storm(peak=peak, outcome=load(plan, bodies, world.folder, server))


def latency_rows(words: str, found: Storm) -> list[Row]:
    """Rows of half the peak."""
    p50, p99 = found.outcome.latency(HALF, 0.5), found.p99(HALF)
    half = f"{words}, at 50 % of peak load"
    windows = statistics.median(found.outcome.latency_by_window(HALF, 0.99, WINDOW_S))
    return [
        Row(measure=f"{words}: peak", value=found.peak, unit="answers per second"),
        Row(measure=f"{half}, p99", value=1000 * p99, unit="ms", target=P99_TARGET_MS, at_least=False),
        Row(
            measure=f"{half}, p99 / p50", value=p99 / p50, unit="ratio", target=SPREAD_TARGET, at_least=False
        ),
        Row(measure=f"{half}, p50", value=1000 * p50, unit="ms"),
        Row(measure=f"{half}, p99 of a second, median", value=1000 * windows, unit="ms"),
    ]


def overload_rows(words: str, found: Storm) -> list[Row]:
    """Rows of ten times the peak and of what follows."""
    storm_words = f"{words}, {TIMES}x overload"
    accepted = found.p99(OVERLOAD)
    refused = sum(
        count for status, count in found.outcome.ended(OVERLOAD).items() if status not in (OK, UNSENT)
    )
    return [
        Row(
            measure=f"{storm_words}: goodput / peak", value=found.goodput, unit="ratio", target=GOODPUT_TARGET
        ),
        Row(
            measure=f"{storm_words}: p99 of accepted / p99 at peak load",
            value=accepted / found.p99(PEAK),
            unit="ratio",
            target=ACCEPTED_TARGET,
            at_least=False,
        ),
        Row(measure=f"{storm_words}: p99 of accepted", value=1000 * accepted, unit="ms"),
        Row(
            measure=f"{storm_words}: recovery",
            value=found.recovery(),
            unit="s",
            target=RECOVERY_TARGET_S,
            at_least=False,
        ),
        Row(
            measure=f"{storm_words}: sent and not answered in time",
            value=refused / found.outcome.offered(OVERLOAD),
            unit="share of calls",
        ),
    ]
