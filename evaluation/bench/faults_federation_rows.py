"""What kills in a small federation did, as rows: all counts by victim; recoveries and void rounds by point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evaluation.bench import postgres
from evaluation.bench.faults_endpoint import POINTS, kill_endpoint
from evaluation.bench.faults_federation import PointKills, Victim, kill_federation, points
from evaluation.bench.faults_processes import kill_processes, moments
from evaluation.bench.rows import Row
from evaluation.settings import Watch

SAMPLE_STEP = 9
"""A quick run takes every so-manieth point."""


def federation_rows(*, times: int, quick: bool, watch: Watch) -> list[Row]:
    """Kill so often at each point, then real processes; or once at a sample of the points; return what came of it."""
    chosen = points() if postgres.reason_absent() is None else points((Victim.COORDINATOR, Victim.NODE))
    chosen = chosen[::SAMPLE_STEP] if quick else chosen
    watch.begin(f"kill -9 in a federation at {len(chosen)} points", len(chosen) * times)
    found = []
    for kills in kill_federation(chosen, times):
        found.append(kills)
        watch.step()
    return rows_of(found + ([] if quick else [*_of_processes(times, watch), *_of_endpoint(times, watch)]))


def _of_processes(times: int, watch: Watch) -> list[PointKills]:
    """Kill each of the real processes so often."""
    chosen, found = moments(times), []
    watch.begin("kill -9 of the processes of a federation", len(chosen))
    for kills in kill_processes(chosen):
        found.append(kills)
        watch.step()
    return found


def _of_endpoint(times: int, watch: Watch) -> list[PointKills]:
    """Kill the ranking endpoint so often in all that it does."""
    found = []
    watch.begin("kill -9 of the ranking endpoint", times * len(POINTS))
    for kills in kill_endpoint(times):
        found.append(kills)
        watch.step()
    return found


def rows_of(found: Sequence[PointKills]) -> list[Row]:
    """Return the rows of some kills; every target but those of kills and recoveries is zero."""
    victims = dict.fromkeys(kills.victim for kills in found)
    places = dict.fromkeys((kills.victim, kills.point) for kills in found)
    rows = [row for victim in victims for row in _of_victim(victim, found)]
    return rows + [row for victim, point in places for row in _of_point(victim, point, found)]


def _of_victim(victim: str, found: Sequence[PointKills]) -> list[Row]:
    own = [kills for kills in found if kills.victim == victim]
    total, damage = _total(own), _total(own).damage
    words = f"federation, {victim} killed at {len({kills.point for kills in own})} points"
    zeros = {
        "accounts overspent": damage.overspent,
        "charges or events lost": damage.lost,
        "releases or events doubled": damage.doubled,
        "rounds beyond two deadlines": total.stuck,
        "files with an id of a shopper or event": total.exposed,
    }
    return [
        Row(measure=f"{words}: kills", value=total.killed, unit="kills", target=total.wanted),
        Row(measure=f"{words}: recovered", value=total.recovered, unit="kills", target=total.wanted),
        Row(measure=f"{words}: runs with a void round", value=total.voided, unit="runs"),
        *(
            Row(measure=f"{words}: {name}", value=value, unit="", target=0, at_least=False)
            for name, value in zeros.items()
        ),
    ]


def _of_point(victim: str, point: str, found: Sequence[PointKills]) -> list[Row]:
    total = _total([kills for kills in found if (kills.victim, kills.point) == (victim, point)])
    words = f"federation, {victim} at {point!r}"
    return [
        Row(measure=f"{words}: recovered", value=total.recovered, unit="kills", target=total.wanted),
        Row(measure=f"{words}: with a void round", value=total.voided, unit="runs"),
    ]


def _total(kills: Iterable[PointKills]) -> PointKills:
    first, *others = kills
    return sum(others, first)
