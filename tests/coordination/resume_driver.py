"""A coordinator that is killed at a named point and started again; `python resume_driver.py FOLDER POINT PASSES ...`.

Each run is a forked child of this process, which has loaded everything and has no threads. It prints one JSON object
per point: which rounds were asked before the kill and after it, and whether both went as they should.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import polars as pl
from flwr.app import Message, RecordDict
from run_words import WORDS, device
from scripted_grid import ScriptedGrid
from small_encoder import SmallEncoder

from evaluation.bench.faults_fork import Tell, in_child, killer_at
from privacy.failpoints import listen, no_failpoint
from proto.federation import TASK, Task
from server.coordination import federation
from server.coordination.app import app
from server.coordination.journal import CURRENT, read_entries, read_opening
from server.coordination.journal_entry import Outcome
from simulation.grid import run_in_process

ITEMS, ROUNDS = 12, 5
"""Items of the catalogue; rounds of the run: counts, two Grams, two gradients."""


def words(folder: Path) -> dict[str, str | int | float | bool]:
    """The configuration of the run in a folder."""
    places = {
        "catalogue": str(folder / "catalogue.parquet"),
        "ledger": str(folder / "ledger.db"),
        "registry": str(folder / "registry"),
        "checkpoints": str(folder / "rounds"),
        "journal": str(folder / "journal"),
    }
    return {**WORDS, **places, "rounds": 2}


def write_catalogue(folder: Path) -> None:
    """Write the catalogue of a run."""
    none = [None] * ITEMS
    table = pl.DataFrame(
        {
            "item_id": [f"i{index}" for index in range(ITEMS)],
            "merchant_id": ["a", "b"] * (ITEMS // 2),
            "title": [f"thing {index % 3}" for index in range(ITEMS)],
            "category": none,
            "brand": none,
            "price": none,
            "description": none,
        },
        schema_overrides={
            "category": pl.String,
            "brand": pl.String,
            "price": pl.Float64,
            "description": pl.String,
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.write_parquet(folder / "catalogue.parquet")


def coordinate(folder: Path, tell: Tell, point: str, passes: int) -> None:
    """Run the coordinator over two honest devices, and tell every task that they are asked."""
    listen(killer_at(point, passes) if point else no_failpoint)
    honest = device(ITEMS)

    def answer(message: Message) -> RecordDict:
        tell(json.dumps(Task.from_record(message.content.config_records[TASK]).to_record()))
        found: RecordDict = honest(message)
        return found

    if not (folder / "catalogue.parquet").exists():
        write_catalogue(folder)
    vars(federation)["encoder_named"] = lambda _name: SmallEncoder()
    run_in_process(app, ScriptedGrid([answer, honest]), words(folder))


def journaled(folder: Path) -> list[int]:
    """Which rounds the journal of the run in progress holds."""
    current = folder / "journal" / CURRENT
    if not current.exists():
        return []
    _, digest = read_opening(current)
    entries = [entry for entry, _ in read_entries(current, digest)]
    return [entry.task.round for entry in entries if entry.outcome is Outcome.RELEASED]


def killed_and_resumed(folder: Path, point: str, passes: int) -> dict[str, object]:
    """Kill a run at a point, start it again, and say what was asked."""
    first = in_child(lambda tell: coordinate(folder, tell, point, passes))
    kept = journaled(folder)
    if (folder / "rounds").exists():
        shutil.copytree(folder / "rounds", folder / "rounds-before")
    second = in_child(lambda tell: coordinate(folder, tell, "", 0))
    return {
        "point": point,
        "passes": passes,
        "killed": first.killed,
        "journaled": kept,
        "asked": [json.loads(line) for line in first.told],
        "asked_again": [json.loads(line) for line in second.told],
        "resumed": not second.failed,
    }


def main() -> None:
    """Do so for every point of the command line."""
    place, points = Path(sys.argv[1]), sys.argv[2:]
    for number, (point, passes) in enumerate(zip(points[::2], points[1::2], strict=True)):
        found = killed_and_resumed(place / str(number), point, int(passes))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
