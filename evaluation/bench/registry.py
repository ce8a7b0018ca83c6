"""Every bench by its name. A bench is imported when it runs, so that naming them costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from evaluation.bench.machine import machine
from evaluation.bench.rows import Row
from evaluation.errors import ReportError, SettingsError

if TYPE_CHECKING:
    from evaluation.settings import Watch


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One bench.

    Attributes:
        module: has `run(*, quick: bool, watch: Watch) -> list[Row]`; quick ends within a minute.
        words: what it measures.
    """

    module: str
    words: str


BENCHES: dict[str, Bench] = {
    "surfaces": Bench(
        module="evaluation.bench.surfaces",
        words="every surface through the serving engine under a stated epsilon, beside named simple rankers",
    ),
    "simulation": Bench(
        module="evaluation.bench.simulation",
        words="speed and memory of a cohort of shoppers, beside other simulators on the same work",
    ),
    "accuracy": Bench(
        module="evaluation.bench.accuracy",
        words="accuracy at stated epsilons, beside baselines, over several seeds",
    ),
    "storage": Bench(
        module="evaluation.bench.storage",
        words="bulk paths beside plain SQLAlchemy Core, charges, erasure, re-encryption under load",
    ),
    "faults": Bench(
        module="evaluation.bench.faults",
        words="damaged ciphertext, kill -9 of stores and a federation at every failpoint, a full disk, a storm "
        "of charges, a lying coordinator",
    ),
    "federation": Bench(
        module="evaluation.bench.federation",
        words="secure aggregation: processor time, traffic, drop-outs; rounds of real processes beyond training",
    ),
    "ranking": Bench(
        module="evaluation.bench.ranking",
        words="the ranking endpoint beside a bare echo: cost, latency, overload, memory, start, promotion",
    ),
    "poisoning": Bench(
        module="evaluation.bench.poisoning",
        words="a promotion attack by 5 % of shoppers, with and without the watch over exposure, and its price",
    ),
    "knobs": Bench(
        module="evaluation.bench.knobs",
        words="what each knob of a surface costs in NDCG@10, and what it gains",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one run of a bench found, and where.

    Attributes:
        seconds: of the clock on the wall, for the whole bench.
        machine: processor, cores, memory and versions, in words.
    """

    bench: str
    rows: tuple[Row, ...]
    seconds: float
    machine: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse an empty result, and rows that a reader could not tell apart.

        Raises:
            ReportError: names the bench.
        """
        if len({row.measure for row in self.rows}) < max(len(self.rows), 1):
            raise ReportError(
                f"bench {self.bench!r} gave {len(self.rows)} rows; it must give at least one, each in its own words"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `fedrank bench --json` prints."""
        rows = [row.as_dict() for row in self.rows]
        return {"bench": self.bench, "rows": rows, "seconds": self.seconds, "machine": self.machine}


def run_bench(name: str, *, quick: bool, watch: Watch) -> Found:
    """Run one bench.

    Raises:
        SettingsError: no bench has this name.
        ReportError: the bench found nothing, or something that cannot be read.
    """
    if name not in BENCHES:
        raise SettingsError(f"there is no bench {name!r}; choose one of {', '.join(BENCHES)}")
    run: Callable[..., list[Row]] = import_module(BENCHES[name].module).run
    before = time.perf_counter()
    rows = run(quick=quick, watch=watch)
    return Found(bench=name, rows=tuple(rows), seconds=time.perf_counter() - before, machine=machine())
