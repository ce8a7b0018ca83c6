"""A disk that fills up under the event store: a limit on the size of files, in a process of its own, stands for it.

`python -m evaluation.bench.faults_disk` prints one JSON object. Tests fill real file systems.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from client.errors import StoreFull
from client.store import EventStore
from evaluation.bench.faults_scenarios import Damage, Place, batch, compare, ids, stored
from evaluation.errors import EvaluationError

LIMIT_BYTES: Final = 1 << 20
MOST_BATCHES: Final = 390
LIMIT_S: Final = 120.0


class DiskNeverFull(EvaluationError):
    """The store grew past the limit without an error, or the process that fills the disk failed."""


def disk_full() -> Damage:
    """Fill a disk under a store, read, make room and go on; tell what was damaged.

    Raises:
        DiskNeverFull: with the last words of the process that fills it.
    """
    command = [sys.executable, "-m", "evaluation.bench.faults_disk"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise DiskNeverFull(f"filling a disk ended with code {done.returncode}: {done.stderr[-500:]}")
    return Damage(**json.loads(done.stdout))


def fill_and_go_on(place: Place) -> Damage:
    """Append until the store says that it is full, check what is there, lift the limit and append the rest."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with place.store() as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, most))
        acknowledged, refused = append_until_full(store)
        damage = compare(stored(store), acknowledged, ()) + Damage(unresumed=len(store.quarantined))
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        store.append(batch(refused, "full"))
        return damage + compare(stored(store), acknowledged + ids(batch(refused, "full")), ())


def append_until_full(store: EventStore) -> tuple[list[str], int]:
    """Return the ids of all events that were acknowledged, and the number of the batch that was refused.

    Raises:
        DiskNeverFull: no batch was.
    """
    acknowledged: list[str] = []
    for turn in range(MOST_BATCHES):
        try:
            store.append(batch(turn, "full"))
        except StoreFull:
            return acknowledged, turn
        acknowledged += ids(batch(turn, "full"))
    raise DiskNeverFull(f"{MOST_BATCHES} batches went into a store of at most {LIMIT_BYTES:,} bytes")


def main() -> None:
    """Fill a disk under a store in a temporary folder and print what was damaged."""
    with tempfile.TemporaryDirectory(prefix="fedrank-disk-") as folder:
        place = Place(url=f"sqlite:///{folder}/store.db", folder=Path(folder))
        print(json.dumps(asdict(fill_and_go_on(place))))


if __name__ == "__main__":
    main()
