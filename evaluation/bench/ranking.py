"""The ranking bench: what a ranking costs, how long it takes, and what happens when too many are asked for.

One run, loopback, the load generator in a process of its own. Every figure of speed stands beside one that was
measured in the same minutes: a bare echo of the same messages in the same server set-up. The shop is simulated
(`ranking_world`); its size, vectors and messages are those of a real one, its shoppers are not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.bench.ranking_ratio import Ratio, rank_beside_echo
from evaluation.bench.ranking_world import make_world
from evaluation.bench.rows import Row
from evaluation.settings import Watch

ECHO_TARGETS = {10_000: 0.6, 100_000: 0.4, 1_000_000: 0.2}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much work each measure does.

    Attributes:
        items: catalogue sizes, with the target of each.
        pairs, spell_s: spells of the endpoint and of the echo in turn, and how long each is.
    """

    items: Sequence[int] = tuple(ECHO_TARGETS)
    pairs: int = 5
    spell_s: float = 3.0


QUICK = Sizes(items=(10_000,), pairs=1, spell_s=1.0)


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure everything; `quick` has one small catalogue and short spells."""
    sizes = QUICK if quick else Sizes()
    watch.begin("rankings beside echoes", len(sizes.items))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="fedrank-bench-") as scratch:
        for items in sizes.items:
            world = make_world(Path(scratch) / str(items), items)
            rows += ratio_rows(items, rank_beside_echo(world, pairs=sizes.pairs, seconds=sizes.spell_s))
            watch.step()
    return rows


def ratio_rows(items: int, found: Ratio) -> list[Row]:
    """The rows of one catalogue size."""
    words = f"Rank at {items:,} items, k=20, history of 50"
    unit = "requests per CPU-second"
    return [
        Row(
            measure=f"{words}: Rank / echo", value=found.median, unit="ratio", target=ECHO_TARGETS.get(items)
        ),
        Row(measure=f"{words}: Rank / echo, lowest pair", value=min(found.ratios), unit="ratio"),
        Row(measure=f"{words}: Rank", value=max(found.rank), unit=unit),
        Row(measure=f"{words}: echo of the same messages", value=max(found.echo), unit=unit),
    ]
