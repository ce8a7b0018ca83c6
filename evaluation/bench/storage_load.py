"""A steady load on an event store, from a process of its own: paced reads and writes, every latency kept.

`python -m evaluation.bench.storage_load SPEC` prints "ready" when its threads run, goes on until its standard
input ends, and prints one JSON object. A latency counts from the moment when the operation was due, so that an
operation that waits behind a slow one is slow as well.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from client.events import Event
from client.store import EventStore
from evaluation.bench.storage_world import START, pseudonyms, store_at
from evaluation.errors import EvaluationError

END_S: Final = 120.0


class LoadFailed(EvaluationError):
    """The process that makes the load ended without telling what it saw."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to do.

    Attributes:
        shoppers: how many of `storage_world.pseudonyms` take part.
        events: that every shopper has at least, from the beginning.
        readers, writers: threads of each kind.
        reads, writes: operations per second of each thread.
    """

    url: str
    keys: str
    shoppers: int
    events: int
    readers: int = 2
    writers: int = 2
    reads: float = 60.0
    writes: float = 12.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the load saw: (due, seconds, fault or nothing) per operation, on the monotonic clock.

    Attributes:
        acknowledged: ids of the events whose append returned.
    """

    reads: list[tuple[float, float, str]] = field(default_factory=list)
    writes: list[tuple[float, float, str]] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Return what the failed operations said, of either kind."""
        return [fault for _, _, fault in (*self.reads, *self.writes) if fault]


@dataclass
class Load:
    """A load that runs in its own process; `stop` ends it and tells what it saw."""

    process: subprocess.Popen[str]

    def stop(self) -> Seen:
        """End the load.

        Raises:
            LoadFailed: it ended by itself, with its last words.
        """
        told, words = self.process.communicate(timeout=END_S)
        if self.process.returncode != 0:
            raise LoadFailed(f"the load ended with code {self.process.returncode}: {words[-500:]}")
        return Seen(**json.loads(told))


@contextmanager
def load_on(spec: Spec) -> Iterator[Load]:
    """Start a load; it runs when the block begins and is ended after it at the latest."""
    command = [sys.executable, "-m", "evaluation.bench.storage_load", json.dumps(asdict(spec))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            if process.stdout.readline().strip() != "ready":
                raise LoadFailed(f"the load did not begin: {process.stderr.read()[-500:]}")
            yield Load(process)
        finally:
            if process.poll() is None:
                process.kill()


def paced(
    rate: float, stop: threading.Event, act: Callable[[int], None]
) -> Iterator[tuple[float, float, str]]:
    """Act at a steady rate until told to stop; give (due, seconds, fault or nothing) of each operation."""
    first, number = time.monotonic(), 0
    while not stop.wait(max(0.0, first + number / rate - time.monotonic())):
        due, fault = first + number / rate, ""
        try:
            act(number)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        yield due, time.monotonic() - due, fault
        number += 1


def reader(store: EventStore, spec: Spec, seed: int) -> Callable[[int], None]:
    """Return an operation that reads one shopper's history and refuses one that lacks events."""
    rng, shoppers = random.Random(seed), pseudonyms(spec.shoppers)

    def read(_number: int) -> None:
        found = len(store.history(rng.choice(shoppers)))
        if found < spec.events:
            raise LoadFailed(f"a shopper has {found} events; {spec.events} were stored")

    return read


def writer(store: EventStore, spec: Spec, seed: int, acknowledged: list[str]) -> Callable[[int], None]:
    """Return an operation that appends one event with an id and keeps the id when it is acknowledged."""
    rng, shoppers = random.Random(seed), pseudonyms(spec.shoppers)

    def write(number: int) -> None:
        name = f"load/{seed}/{number}"
        event = Event(
            shopper=rng.choice(shoppers), item_id="item", kind="view", timestamp=START, event_id=name
        )
        store.append([event])
        acknowledged.append(name)

    return write


def run(spec: Spec, until: Callable[[], object]) -> Seen:
    """Make the load until `until` returns, and tell what was seen."""
    seen, stop = Seen(), threading.Event()

    def work(rate: float, act: Callable[[int], None], into: list[tuple[float, float, str]]) -> None:
        into.extend(paced(rate, stop, act))

    with store_at(spec.url, Path(spec.keys)) as store:
        jobs = [(spec.reads, reader(store, spec, seed), seen.reads) for seed in range(spec.readers)]
        for seed in range(spec.writers):
            jobs.append((spec.writes, writer(store, spec, seed, seen.acknowledged), seen.writes))
        threads = [threading.Thread(target=work, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        until()
        stop.set()
        for thread in threads:
            thread.join()
    return seen


def main() -> None:
    """Read the specification from the command line and make the load until standard input ends."""
    spec = Spec(**json.loads(sys.argv[1]))
    print("ready", flush=True)
    print(json.dumps(asdict(run(spec, sys.stdin.read))))


if __name__ == "__main__":
    main()
