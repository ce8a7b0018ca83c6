"""A new population is written aside and takes the old one's place only when its run may start.

A run that is refused so leaves the folder of the run before it as it was, and it can still be served.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from privacy.keyring import Keyring
from simulation.errors import SimulationError
from simulation.population import PROMOTIONS_FILE, Population

STAGE = ".incoming"
PARTS = ("store", "catalogue.parquet", "participants.json")
OPTIONAL_PARTS = (PROMOTIONS_FILE,)
"""Files that a population may lack; those of the run before it go all the same."""


class LedgerInUse(SimulationError):
    """Another run is planning or spending on the same accounts."""


def new_stage(run: Path) -> Path:
    """Return an empty folder inside the run folder that shares its keys."""
    stage = run / STAGE
    drop_stage(run)
    stage.mkdir()
    Keyring.open(run / "keys")
    (stage / "keys").symlink_to((run / "keys").resolve(), target_is_directory=True)
    return stage


def install(population: Population, run: Path) -> Population:
    """Put a staged population in the place of the run folder's, and return it there."""
    for part in OPTIONAL_PARTS:
        (run / part).unlink(missing_ok=True)
    for part in (*PARTS, *(name for name in OPTIONAL_PARTS if (population.folder / name).exists())):
        old, new = run / part, population.folder / part
        if old.is_dir():
            shutil.rmtree(old)
        new.replace(old)
    drop_stage(run)
    return replace(population, folder=run)


def drop_stage(run: Path) -> None:
    """Remove what a refused run has staged; the keys that it linked to stay."""
    shutil.rmtree(run / STAGE, ignore_errors=True)


@contextmanager
def sole_spender(keys: Path) -> Iterator[None]:
    """Hold the accounts that these keys name for one run, from its plan to its last charge.

    A plan is made from what has been spent, so two runs at once would both plan for the same remainder.

    Raises:
        LedgerInUse: another run holds them; nothing was charged.
    """
    with (keys / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerInUse(
                "another run is spending on this ledger's accounts; nothing was charged; start again when it is done"
            ) from None
        yield
