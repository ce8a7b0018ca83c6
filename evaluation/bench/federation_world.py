"""A federation of real processes on this machine's loopback addresses, as its operator and merchants start it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from deploy.kit_files import Kits
from evaluation.errors import LoadError
from evaluation.load.processes import family

FEDRANK: Final = (sys.executable, "-c", "from fedrank.cli import main; main()")
LOOPBACK: Final = "127.0.0.1"
DOMAIN: Final = "shops.example"
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_LOOK_SECONDS: Final = 0.05
_START_SECONDS, _STOP_SECONDS = 180.0, 30.0
_LAST_WORDS: Final = 2000
_ANSWERED: Final = re.compile(r"train\.\w+ of \S+/(\d+)-\w+ answered in ([0-9.]+) s")


@dataclass(frozen=True, kw_only=True)
class Shop:
    """One merchant of the federation: its public items, and events that never leave its kit."""

    id: str
    items: pl.DataFrame
    events: pl.DataFrame

    @property
    def shoppers(self) -> int:
        """Number of its shoppers."""
        return self.events["user_id"].n_unique()


@dataclass(frozen=True, kw_only=True)
class Running:
    """A long-lived command that has said that it is ready; `place` begins the names of its output files."""

    process: subprocess.Popen[bytes]
    place: Path

    @property
    def ready_line(self) -> str:
        """What it said."""
        return self.place.with_suffix(".out").read_text(encoding="utf-8").partition("\n")[0]

    def log(self) -> str:
        """What it has logged so far."""
        return self.place.with_suffix(".log").read_text(encoding="utf-8")


@dataclass(kw_only=True)
class Processes:
    """The processes of one federation; their output goes to files in `folder`."""

    folder: Path
    running: dict[str, Running] = field(default_factory=dict)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self, name: str, *words: str) -> None:
        """Start `fedrank WORDS`; `ready` waits for it."""
        place = self.folder / name
        with place.with_suffix(".out").open("wb") as out, place.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen([*FEDRANK, *words], stdout=out, stderr=log, env=environment())
        self._started.append(process)
        self.running[name] = Running(process=process, place=place)

    def ready(self, *names: str) -> None:
        """Wait until these say that they are ready; raises `LoadError` with the last words of one that ended."""
        end = time.monotonic() + _START_SECONDS
        for name in names:
            one = self.running[name]
            while not one.ready_line.startswith("ready "):
                if one.process.poll() is not None or time.monotonic() > end:
                    raise LoadError(f"{name} did not get ready: {one.log()[-_LAST_WORDS:]}")
                time.sleep(_LOOK_SECONDS)

    def all(self) -> tuple[int, ...]:
        """Every process of these commands, children included."""
        return tuple(pid for one in self.running.values() for pid in family(one.process.pid))

    def stop(self, *names: str) -> None:
        """End these, or all where none is named, and wait until each has ended its children."""
        stopped = [self.running.pop(name) for name in names or tuple(self.running)]
        for one in stopped:
            one.process.terminate()
        for one in stopped:
            try:
                one.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Give the processes of one federation, and end them all with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    started = Processes(folder=folder)
    try:
        yield started
    finally:
        started.stop()


def environment() -> dict[str, str]:
    """This process's environment, with one thread for each process."""
    return {**os.environ, **_ONE_THREAD}


def command(*words: str) -> str:
    """Run `fedrank WORDS` to its end and return what it printed; raises `LoadError` with its last words."""
    done = subprocess.run([*FEDRANK, *words], capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise LoadError(
            f"fedrank {' '.join(words)} ended with {done.returncode}: {done.stderr[-_LAST_WORDS:]}"
        )
    return done.stdout


def described(
    folder: Path,
    shops: Sequence[Shop],
    *,
    coordinator: str,
    words: Mapping[str, Any],
    settings: Mapping[str, Any],
    serving: Mapping[str, str] | None = None,
) -> Path:
    """Write federation.toml, every merchant's public items and its events; return the description.

    Args:
        coordinator: HOST:PORT where merchants reach it.
        words: of the description.
        settings: words of the run.
        serving: address of the ranking endpoint of merchants that have one.
    """
    fixed = {"name": "loopback", "domain": DOMAIN, "coordinator": coordinator}
    lines = _lines({**fixed, **words})
    for shop in shops:
        shop.items.write_csv(folder / f"{shop.id}.csv")
        shop.events.write_csv(events_file(folder, shop.id))
        own = {"id": shop.id, "catalogue": f"{shop.id}.csv", "shoppers": shop.shoppers}
        if serving and shop.id in serving:
            own["serving"] = serving[shop.id]
        lines += ["", "[[merchants]]", *_lines(own)]
    file = folder / "federation.toml"
    file.write_text("\n".join([*lines, "", "[settings]", *_lines(settings)]) + "\n", encoding="utf-8")
    return file


def _lines(words: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in words.items()]


def events_file(folder: Path, merchant: str) -> Path:
    """Where a merchant's events lie before they are loaded."""
    return folder / f"{merchant}-events.csv"


def free_port() -> int:
    """A port of the loopback addresses that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def start(started: Processes, kits: Kits, merchants: Sequence[str], *words: str) -> None:
    """Start the coordinator (with further `words`) and the merchants' nodes, and wait until all are in."""
    started.begin("coordinator", "coordinator", "start", str(kits.coordinator), *words)
    for merchant in merchants:
        started.begin(merchant, "merchant", "start", str(kits.merchant(merchant)))
    started.ready("coordinator", *merchants)


def compute_seconds(logs: Sequence[str]) -> dict[int, float]:
    """Return what the slowest node took for its contribution, by number of the round, from the nodes' logs."""
    slowest: dict[int, float] = {}
    for log in logs:
        for number, seconds in _ANSWERED.findall(log):
            slowest[int(number)] = max(slowest.get(int(number), 0.0), float(seconds))
    return slowest
