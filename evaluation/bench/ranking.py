"""The ranking bench: what a ranking costs, how long it takes, and what happens when too many are asked for.

One run, loopback, the load generator in a process of its own. Every figure of speed stands beside one that was
measured in the same minutes: a bare echo of the same messages in the same server set-up. The shop is simulated
(`ranking_world`); its size, vectors and messages are those of a real one, its shoppers are not.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.bench import ranking_index
from evaluation.bench.ranking_answers import BATCH, answer_rows
from evaluation.bench.ranking_load import latency_rows, overload_rows, storm
from evaluation.bench.ranking_promotion import promote_under_load
from evaluation.bench.ranking_ratio import DISTINCT, Ratio, rank_beside_echo, saturate
from evaluation.bench.ranking_servers import serving
from evaluation.bench.ranking_start import memory_rows, start_rows
from evaluation.bench.ranking_world import make_world, questions
from evaluation.bench.rows import Row
from evaluation.settings import Watch

ECHO_TARGETS: Mapping[int, float] = {10_000: 0.6, 100_000: 0.4, 1_000_000: 0.2}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much work each measure does.

    Attributes:
        ratios: catalogue sizes held against the echo.
        pairs, spell_s: spells of the endpoint and of the echo in turn, and how long each is.
        middle: items of the catalogue for latency, overload and start.
        storm_s: of each phase of a storm; half of the peak takes twice as long, and `after_s` what follows.
        starts: how often a prepared start is timed.
        large: items of the catalogue for memory.
        promoted: items of the catalogue whose versions are promoted, every `every_s` during `promoting_s` of load.
        answers: that are judged.
    """

    ratios: Sequence[int] = tuple(ECHO_TARGETS)
    pairs: int = 5
    spell_s: float = 3.0
    middle: int = 100_000
    storm_s: float = 8.0
    after_s: float = 12.0
    starts: int = 5
    large: int = 1_000_000
    promoted: int = 10_000
    promoting_s: float = 60.0
    every_s: float = 7.0
    answers: int = 1_000_000


QUICK = Sizes(
    ratios=(10_000,),
    pairs=1,
    spell_s=1.0,
    middle=10_000,
    storm_s=1.0,
    after_s=3.0,
    starts=1,
    large=10_000,
    promoted=2_000,
    promoting_s=7.0,
    every_s=6.0,
    answers=2_000,
)


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure everything; `quick` has small catalogues and short spells."""
    sizes = QUICK if quick else Sizes()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="fedrank-bench-") as scratch:
        measures = _measures(sizes, Path(scratch))
        watch.begin("rankings beside echoes, storms, starts and promotions", len(measures))
        for measure in measures:
            rows += measure()
            watch.step()
        watch.begin("answers judged", math.ceil(sizes.answers / BATCH))
        rows += answer_rows(Path(scratch) / "answers", sizes.answers, step=watch.step)
    return [*rows, *ranking_index.rows(quick=quick, watch=watch)]


def _measures(sizes: Sizes, scratch: Path) -> list[Callable[[], list[Row]]]:
    ratios = [partial(ratio_measure, scratch / "ratio", items, sizes) for items in sizes.ratios]
    others = [start_measure, load_measure, memory_measure, promotion_measure]
    return [*ratios, *(partial(measure, scratch / measure.__name__, sizes) for measure in others)]


def ratio_measure(folder: Path, items: int, sizes: Sizes) -> list[Row]:
    """A ranking beside an echo, with reasons and without."""
    world = make_world(folder / str(items), items)
    words = f"Rank at {items:,} items, k=20, history of 50"
    found = rank_beside_echo(world, pairs=sizes.pairs, seconds=sizes.spell_s)
    bare = rank_beside_echo(world, pairs=1, seconds=sizes.spell_s, reasons=False)
    return [
        *ratio_rows(words, found, ECHO_TARGETS.get(items)),
        Row(measure=f"{words}, without reasons: Rank / echo", value=bare.median, unit="ratio"),
    ]


def ratio_rows(words: str, found: Ratio, target: float | None) -> list[Row]:
    """The rows of one catalogue size."""
    unit = "requests per CPU-second"
    return [
        Row(measure=f"{words}: Rank / echo", value=found.median, unit="ratio", target=target),
        Row(measure=f"{words}: Rank / echo, lowest pair", value=min(found.ratios), unit="ratio"),
        Row(measure=f"{words}: Rank", value=max(found.rank), unit=unit),
        Row(measure=f"{words}: echo of the same messages", value=max(found.echo), unit=unit),
    ]


def start_measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Starts of an endpoint, the one that prepares everything first."""
    return start_rows(make_world(folder, sizes.middle), starts=sizes.starts)


def load_measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Half the peak, the peak, ten times the peak; and callers that wait in line, for information."""
    world = make_world(folder, sizes.middle)
    words = f"{sizes.middle:,} items"
    with serving(world.folder) as server:
        found = storm(server, world, seconds=sizes.storm_s, after=sizes.after_s)
        waiting = storm(server, world, seconds=sizes.storm_s, after=sizes.after_s, waits=True)
    return [
        *latency_rows(words, found),
        *overload_rows(words, found),
        Row(
            measure=f"{words}, 10x overload by callers that wait until their deadline: goodput / peak",
            value=waiting.goodput,
            unit="ratio",
        ),
    ]


def memory_measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Two workers over one large catalogue, after they have answered."""
    world = make_world(folder, sizes.large)
    with serving(world.folder, "--workers", "2") as server:
        saturate(server, questions(world, DISTINCT), folder, sizes.spell_s)
        return memory_rows(world, server)


def promotion_measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Versions promoted in turn while calls come."""
    world = make_world(folder, sizes.promoted, versions=2)
    with serving(world.folder) as server:
        return promote_under_load(
            server, world, rate=300.0, seconds=sizes.promoting_s, every=sizes.every_s
        ).rows()
