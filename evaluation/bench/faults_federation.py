"""kill -9 in a small federation: of the coordinator, of a node, and of the coordinator's database server.

Five forked processes with the installed apps, real kits, ledgers, stores, keys and journals; a folder carries their
messages in place of Flower's SuperLink, so that a kill costs seconds. What real processes over the real SuperLink do
under kills is `faults_processes`. `python -m evaluation.bench.faults_federation SPEC` is the process that forks; it
prints one JSON object per kill, and `kill_federation` starts it and reads along.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Final

from evaluation.bench import postgres
from evaluation.bench.faults_federation_check import Found, finished, look
from evaluation.bench.faults_federation_crew import COORDINATOR, Crew
from evaluation.bench.faults_federation_world import MERCHANTS, Place, make
from evaluation.bench.faults_fork import Tell, in_child, killer_at
from evaluation.bench.faults_kills import DriverFailed
from evaluation.bench.faults_scenarios import Damage
from privacy.failpoints import FAILPOINTS, FEDERATION_FAILPOINTS, Failpoint, no_failpoint

RESUMES: Final = 3
"""How often a run that died is begun again."""
PATIENCE: Final = 120.0
"""Seconds without the end of any process after which a run counts as hung."""
ROUNDS: Final = 5
"""Rounds of a run: counts, two Grams, two gradients."""
_ENVIRONMENT: Final = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1"),
    "NUMBA_DISABLE_JIT": "1",
}
"""One thread, or it could not fork; and no compiled loops: four nodes would read them at once in every run."""
_LOADED_ONCE: Final = (
    "privacy.migrations",
    "model.kernels",
    "model.kernels_events",
    "model.kernels_sampling",
)
"""What every child would load otherwise, in the middle of a round."""
ONCE: Final = frozenset({*FEDERATION_FAILPOINTS["run"], *FEDERATION_FAILPOINTS["version"]})


class Victim(StrEnum):
    """Who is killed."""

    COORDINATOR = "coordinator"
    NODE = "merchant's node"
    DATABASE = "database server"


POINTS: Final = {
    Victim.COORDINATOR: (
        *(point for group in ("round", "secure", "run") for point in FEDERATION_FAILPOINTS[group]),
        *FAILPOINTS["charge"],
    ),
    Victim.NODE: (
        *(point for group in ("phase", "answer", "version") for point in FEDERATION_FAILPOINTS[group]),
        *FAILPOINTS["charge"],
    ),
    Victim.DATABASE: (
        *("round: cohort there", "secure: share closed"),
        *FAILPOINTS["charge"],
        *("round: reserved", "round: noise drawn", "journal: entry written", "run: learned"),
    ),
}
"""Where each is killed; the database server when the coordinator comes to the point."""


@dataclass(frozen=True, kw_only=True)
class PointKills:
    """What one or more kills at one point did.

    Attributes:
        wanted, killed: how often a run was begun for it, and how often the kill came.
        recovered: kills after which a run ended with a version that verifies.
        voided: kills that cost a round its price.
        stuck: rounds beyond two deadlines.
        exposed: files with an id of a shopper or an event.
    """

    victim: str
    point: str
    wanted: int = 0
    killed: int = 0
    recovered: int = 0
    voided: int = 0
    stuck: int = 0
    exposed: int = 0
    damage: Damage = field(default_factory=Damage)

    def __add__(self, other: PointKills) -> PointKills:
        """Return the kills of both, which were at one point."""
        counts = ("wanted", "killed", "recovered", "voided", "stuck", "exposed", "damage")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in counts})


def judged(victim: str, point: str, killed: bool, found: Found | None) -> PointKills:
    """Return what came of one kill; None found: nobody could even look at what it left."""
    one = PointKills(victim=victim, point=point, wanted=1, killed=int(killed))
    if found is None:
        return replace(one, damage=Damage(unresumed=1))
    return replace(
        one,
        recovered=int(killed and found.recovered),
        voided=int(found.voided > 0),
        stuck=found.stuck,
        exposed=found.exposed,
        damage=found.damage + Damage(unresumed=int(not found.recovered)),
    )


def points(victims: Sequence[Victim] = tuple(Victim)) -> list[tuple[Victim, str]]:
    """Return every victim with each of its points."""
    return [(victim, point) for victim in victims for point in POINTS[victim]]


def kill_federation(chosen: Sequence[tuple[str, str]], times: int) -> Iterator[PointKills]:
    """Kill so often at each of the chosen points, each with its victim, in turn; yield what came of each kill.

    Raises:
        DriverFailed: with the last words of the process that kills.
    """
    spec = json.dumps({"points": list(chosen), "times": times})
    command = [sys.executable, "-m", "evaluation.bench.faults_federation", spec]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as words,
        subprocess.Popen(
            command, stdout=pipe, stderr=words, text=True, env={**os.environ, **_ENVIRONMENT}
        ) as driver,
    ):
        assert driver.stdout is not None
        for line in driver.stdout:
            found = json.loads(line)
            yield PointKills(**{**found, "damage": Damage(**found["damage"])})
        if driver.wait() != 0:
            words.seek(0)
            raise DriverFailed(
                f"the process that kills ended with {driver.returncode}: {words.read()[-1000:]}"
            )


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One kill: `number` says in which of the rounds, and which merchant's node."""

    victim: Victim
    point: str
    number: int

    @property
    def name(self) -> str:
        """Name of the process that comes to the point."""
        return MERCHANTS[self.number % len(MERCHANTS)] if self.victim is Victim.NODE else COORDINATOR

    def failpoint(self, name: str, kill_database: Callable[[], None]) -> Failpoint:
        """Return what kills, in the process of that name."""
        if name != self.name:
            return no_failpoint
        passes = 1 if self.point in ONCE else 1 + self.number % ROUNDS
        if self.victim is not Victim.DATABASE:
            return killer_at(self.point, passes)
        left = passes

        def at(point: str) -> None:
            nonlocal left
            left -= point == self.point
            if left == 0 and point == self.point:
                kill_database()

        return at


class Database:
    """The database server of the coordinator's ledger, which may be killed and comes back."""

    def __init__(self, url: str) -> None:
        """Use a running server; without a URL there is none, and the ledger is a file."""
        self._url, self.deaths = url, 0

    def kill(self) -> None:
        """End the server by kill -9."""
        postgres.kill(self._url)

    def back(self) -> None:
        """Start the server again where it was killed."""
        if self._url and not postgres.answers(self._url):
            postgres.start_again(self._url)
            self.deaths += 1


def one_turn(turn: Turn, place: Place, database: Database) -> tuple[bool, Found | None]:
    """Run a federation with one kill until it is done; return whether the kill came, and what it left."""
    crew, runs, deaths, killed = Crew(place), 1, database.deaths, False
    for name in (*MERCHANTS, COORDINATOR):
        crew.start(name, turn.failpoint(name, database.kill))
    while (ended := crew.ended(PATIENCE)) is not None:
        name, status = ended
        database.back()
        killed = killed or status == -signal.SIGKILL or database.deaths > deaths
        again = no_failpoint if killed else turn.failpoint(name, database.kill)
        if name != COORDINATOR:
            crew.start(name, again)
            continue
        if status == 0 or finished(place) or runs > RESUMES:
            break
        crew.start(COORDINATOR, again)
        runs += 1
    crew.end()
    return killed, _looked_at(place)


def _looked_at(place: Place) -> Found | None:
    def work(tell: Tell) -> None:
        tell(json.dumps(asdict(look(place))))

    told = in_child(work)
    if told.failed:
        return None
    words = json.loads(told.told[-1])
    return Found(**{**words, "damage": Damage(**words["damage"])})


@contextmanager
def _server(chosen: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Run a database server where one is to be killed."""
    wanted = any(victim == Victim.DATABASE for victim, _ in chosen)
    with postgres.server(durable=True) if wanted else nullcontext("") as url:
        yield url


def main() -> None:
    """Kill as the command line says, and print what came of it."""
    for module in _LOADED_ONCE:
        import_module(module)

    spec = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="fedrank-kills-") as folder, _server(spec["points"]) as server:
        template = Place(root=Path(folder) / "template")
        if in_child(lambda _tell: make(template.root)).failed:
            raise DriverFailed("the small federation could not be made; see the words above")
        for number in range(spec["times"]):
            for victim, point in spec["points"]:
                turn = Turn(victim=Victim(victim), point=point, number=number)
                print(json.dumps(asdict(_placed(turn, template, Path(folder), server))), flush=True)


def _placed(turn: Turn, template: Place, folder: Path, server: str) -> PointKills:
    """Do a turn in a copy of the federation that is gone afterwards."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        of_server: AbstractContextManager[str] = nullcontext("")
        if turn.victim is Victim.DATABASE:
            of_server = postgres.database(server)
        ledger = stack.enter_context(of_server)
        place, database = template.copied(root / "place", ledger), Database(server if ledger else "")
        return judged(turn.victim, turn.point, *one_turn(turn, place, database))


if __name__ == "__main__":
    main()
