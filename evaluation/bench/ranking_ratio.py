"""What a ranking costs beside a bare echo of the same messages: requests per processor second of the servers.

Both servers run at once and are loaded in turn, spell by spell, so that what other processes do to the machine
falls on both; the one that rests uses nothing. The load is closed here (so many calls are always under way), which
finds the most that a server can answer; what one answer costs then decides.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.bench.ranking_servers import Server, echoing, load, serving
from evaluation.bench.ranking_world import World, questions
from evaluation.errors import LoadError
from evaluation.load.plan import OK, Outcome, Phase, Plan

IN_FLIGHT = 32
DISTINCT = 500
"""Different questions that take turns."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Spell by spell, what both servers answered.

    Attributes:
        rank, echo: requests per processor second of each spell.
        peak: answers per second of the endpoint, of each spell.
    """

    rank: tuple[float, ...]
    echo: tuple[float, ...]
    peak: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the ratios of neighbouring spells."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """The ratio of each pair of neighbouring spells."""
        return [rank / echo for rank, echo in zip(self.rank, self.echo, strict=True)]


def saturate(
    server: Server, bodies: Sequence[bytes], folder: Path, seconds: float, *, keep: bool = False
) -> Outcome:
    """Load one server fully for a spell, after a short one that does not count; phase 1 is the spell.

    Raises:
        LoadError: a call was not answered.
    """
    phases = (
        Phase(seconds=min(1.0, seconds / 4), in_flight=IN_FLIGHT),
        Phase(seconds=seconds, in_flight=IN_FLIGHT),
    )
    outcome = load(Plan(port=0, phases=phases, deadline_s=20.0, keep=keep), bodies, folder, server)
    if any(status != OK for phase in (0, 1) for status in outcome.ended(phase)):
        ended = f"{outcome.ended(0)}, {outcome.ended(1)}"
        raise LoadError(f"of a load that never exceeds {IN_FLIGHT} calls some failed: {ended}")
    return outcome


def rank_beside_echo(world: World, *, pairs: int, seconds: float, reasons: bool = True) -> Ratio:
    """Measure both in turn, each first in every other pair."""
    bodies = questions(world, DISTINCT, reasons=reasons)
    rank: list[Outcome] = []
    echo: list[Outcome] = []
    with serving(world.folder) as server:
        warm = saturate(server, bodies, world.folder, seconds, keep=True)
        answers = [answer for answer in warm.answers if answer][:DISTINCT]
        with echoing(answers, world.folder) as beside:
            saturate(beside, bodies, world.folder, seconds)
            for pair in range(pairs):
                turns = [(server, rank), (beside, echo)]
                for one, found in turns if pair % 2 else reversed(turns):
                    found.append(saturate(one, bodies, world.folder, seconds))
    return Ratio(
        rank=tuple(outcome.per_cpu_second(1) for outcome in rank),
        echo=tuple(outcome.per_cpu_second(1) for outcome in echo),
        peak=tuple(outcome.goodput(1) for outcome in rank),
    )
