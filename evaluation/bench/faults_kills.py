"""kill -9 at every named failpoint of every operation, and what it damaged.

`python -m evaluation.bench.faults_kills SPEC` is the process that forks the children which are killed; it prints one
JSON object per failpoint. `kill_everywhere` starts it and reads along.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from evaluation.bench.faults_append import Append, Erase, Migrate
from evaluation.bench.faults_charge import ChargeCohort
from evaluation.bench.faults_fork import Tell, in_child, killer_at
from evaluation.bench.faults_rewrap import Rewrap
from evaluation.bench.faults_rotate import Rotate
from evaluation.bench.faults_scenarios import Damage, Place, Scenario
from evaluation.errors import EvaluationError
from privacy.failpoints import FAILPOINTS

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "append": Append(),
        "charge": ChargeCohort(),
        "rotate": Rotate(),
        "rewrap": Rewrap(),
        "erase": Erase(),
        "migrate": Migrate(),
    }
)
"""Every operation of `FAILPOINTS`, and what it does under kills."""


class DriverFailed(EvaluationError):
    """The process that kills ended without telling everything, or could not prepare a scenario."""


@dataclass(frozen=True, kw_only=True)
class Kills:
    """What the kills at one failpoint did.

    Attributes:
        wanted, killed: how often the operation was begun, and how often the kill reached it.
    """

    operation: str
    failpoint: str
    wanted: int
    killed: int
    damage: Damage


def kill_everywhere(
    urls: Sequence[str], times: int, operations: Sequence[str] = tuple(SCENARIOS)
) -> Iterator[Kills]:
    """Kill every operation `times` at each of its failpoints, on each of some empty databases.

    Args:
        urls: of as many empty databases as `points(operations)` has entries; each is used for one failpoint.

    Raises:
        DriverFailed: with the last words of the process that kills.
    """
    spec = json.dumps({"urls": list(urls), "times": times, "operations": list(operations)})
    command = [sys.executable, "-m", "evaluation.bench.faults_kills", spec]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as words,
        subprocess.Popen(command, stdout=pipe, stderr=words, text=True) as driver,
    ):
        assert driver.stdout is not None
        for line in driver.stdout:
            found = json.loads(line)
            yield Kills(**{**found, "damage": Damage(**found["damage"])})
        if driver.wait() != 0:
            words.seek(0)
            raise DriverFailed(
                f"the process that kills ended with {driver.returncode}: {words.read()[-1000:]}"
            )


def points(operations: Sequence[str] = tuple(SCENARIOS)) -> list[tuple[str, str]]:
    """Return every operation with each of its failpoints."""
    return [(operation, name) for operation in operations for name in FAILPOINTS[operation]]


def kill_repeatedly(scenario: Scenario, failpoint: str, place: Place, times: int) -> tuple[int, Damage]:
    """Kill one operation at one point so often; return how many kills reached it, and all damage.

    Raises:
        DriverFailed: the scenario could not be prepared.
    """
    if in_child(lambda _tell: scenario.prepare(place)).failed:
        raise DriverFailed(f"the scenario of {failpoint!r} could not be prepared; see the words above")
    killed, damage = 0, Damage()
    for turn in range(times):

        def act(_tell: Tell, turn: int = turn) -> None:
            scenario.act(place, turn, killer_at(failpoint, 1 + turn % scenario.passes))

        def check(tell: Tell, turn: int = turn) -> None:
            tell(json.dumps(asdict(scenario.check(place, turn))))

        killed += in_child(act).killed
        checked = in_child(check)
        damage += Damage(unresumed=1) if checked.failed else Damage(**json.loads(checked.told[-1]))
    return killed, damage


def main() -> None:
    """Kill as the command line says, and print what came of it."""
    # Alembic is loaded once, before the first fork, and not by every child that migrates.
    import privacy.migrations  # noqa: F401

    spec = json.loads(sys.argv[1])
    for (operation, failpoint), url in zip(points(spec["operations"]), spec["urls"], strict=True):
        with tempfile.TemporaryDirectory(prefix="fedrank-kills-") as folder:
            place = Place(url=url or f"sqlite:///{folder}/store.db", folder=Path(folder))
            killed, damage = kill_repeatedly(SCENARIOS[operation], failpoint, place, spec["times"])
        found = Kills(
            operation=operation, failpoint=failpoint, wanted=spec["times"], killed=killed, damage=damage
        )
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
