"""How a private round of ours grows: a million shoppers in chunks, more shoppers, a larger catalogue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from evaluation.bench.rows import Row
from evaluation.settings import Watch
from model.features import DAY, KINDS, Histories
from model.schema import Schema, Weights

DIM, EVENTS, ITEMS = 64, 30, 100_000
CHUNK = 50_000
"""Shoppers whose examples are in memory at once."""

HEAD = 1_000
CATALOGUES = (10_000, 100_000, 1_000_000)
START = 1_000_000_000
NOISE_MULTIPLIER, CLIPPING_NORM = 1.0, 0.5


@dataclass(frozen=True, kw_only=True)
class World:
    """Random shoppers and a model over one catalogue."""

    histories: Histories
    keys: NDArray[np.uint64]
    weights: Weights
    vectors: NDArray[np.float32]
    q: NDArray[np.float64]


def world(shoppers: int, items: int) -> World:
    """Return shoppers with `EVENTS` events each, popular items more often."""
    random = np.random.default_rng(2)
    weights: Weights = {
        name: random.normal(0.0, 0.2, shape).astype(np.float32)
        for name, shape in Schema(items=items, content_features=1, dim=DIM).shapes().items()
        if name not in ("item_id", "content")
    }
    popularity = np.arange(1, items + 1) ** -0.5
    histories = _histories(random, shoppers, items)
    keys = random.integers(0, 2**64, shoppers, dtype=np.uint64)
    vectors = random.standard_normal((items, DIM), dtype=np.float32) / np.float32(np.sqrt(DIM))
    return World(
        histories=histories, keys=keys, weights=weights, vectors=vectors, q=popularity / popularity.sum()
    )


def _histories(random: np.random.Generator, shoppers: int, items: int) -> Histories:
    """Return histories whose item numbers follow the popularity rank^-0.5 by inversion."""
    events = shoppers * EVENTS
    numbers = (
        (np.square(random.random(events, dtype=np.float32)) * items).astype(np.int32).clip(max=items - 1)
    )
    times = np.sort(START + random.integers(0, 1000 * DAY, (shoppers, EVENTS)), axis=1).ravel()
    kinds = random.integers(0, len(KINDS), events).astype(np.int8)
    return Histories(np.arange(shoppers + 1, dtype=np.int64) * EVENTS, numbers, kinds, times)


def private_round(given: World, trained: frozenset[str]) -> dict[str, NDArray[np.float64]]:
    """Return one released gradient: examples drawn, gradients clipped and summed in chunks, noise added."""
    from client.contribution import gradient_share
    from model.sampling import draw_examples
    from privacy.mechanism import GaussianSum, SystemNoise

    total: dict[str, NDArray[np.float64]] = {}
    for start in range(0, len(given.keys), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(given.keys)))
        histories, keys = given.histories.select(rows), given.keys[rows]
        examples = draw_examples(histories, keys, given.q, seed=3, round_number=1, clock=True)
        log_q = np.log(given.q)
        part = gradient_share(given.weights, given.vectors, examples, log_q, trained, CLIPPING_NORM)
        for name, value in part.items():
            total[name] = np.add(total[name], value, out=total[name]) if name in total else value
    mechanism = GaussianSum(
        clipping_norm=CLIPPING_NORM, noise_multiplier=NOISE_MULTIPLIER, noise=SystemNoise()
    )
    return {name: mechanism.release(value) for name, value in total.items()}


def statistics(given: World) -> None:
    """Compute the two rounds of statistics: counts over the whole catalogue, Gram over the head."""
    from client.contribution import HeadHistories, count_share, gram_share
    from client.shoppers import Shoppers
    from model.head import Head

    shoppers = Shoppers(tuple(map(str, range(len(given.keys)))), given.histories, given.keys)
    counts = count_share(shoppers, len(given.q), 1.0)
    popular = np.sort(np.argpartition(-counts, HEAD)[:HEAD])
    head = Head(popular, np.maximum(counts[popular], 1.0))
    gram_share(HeadHistories.of(shoppers, head, len(given.q)), 1.0)


@cache
def _kinds_of_round() -> tuple[frozenset[str], frozenset[str]]:
    """Return the parameters of a production round, and the same with the item vectors."""
    from evaluation.bench.peers.work import SMALL, TRAINED

    return frozenset(SMALL), TRAINED


def cpu_seconds_of(shoppers: int, items: int, *, head_limited: bool) -> float:
    """Return the CPU time of a round over all item vectors, or of all head-limited stages; warm.

    Head-limited: counts, the Gram over `HEAD` items, and a gradient round on the user tower, as `fedrank simulate`
    runs them. Item vectors then learn through the Gram alone, so that no stage handles a dense (items, dim) sum.
    """
    small, everything = _kinds_of_round()
    warm_up, given = world(64, HEAD * 2), world(shoppers, items)
    for each in (warm_up, given):
        before = time.process_time()
        if head_limited:
            statistics(each)
        private_round(each, small if head_limited else everything)
    return time.process_time() - before


def scale_rows(*, quick: bool, watch: Watch) -> list[Row]:
    """Return the rows of large rounds, each measured in a process of its own."""
    part = 20 if quick else 1
    million, few = 1_000_000 // part, 200_000 // part
    watch.begin("private rounds of growing size", 3 + len(CATALOGUES))
    large = _measured(million, ITEMS, False, watch)
    words = f"one private round, {million:,} shoppers x {ITEMS:,} items x {DIM} dims, {EVENTS} events each"
    said = f"{words} (a {part}th of the size and of the target)" if quick else words
    rows = [
        Row(
            measure=f"{said}: CPU time",
            value=large["cpu_seconds"],
            unit="CPU-seconds",
            target=150.0 / part,
            at_least=False,
        ),
        Row(measure=f"{said}: peak memory", value=large["peak_gib"], unit="GiB", target=6.0, at_least=False),
    ]
    return [*rows, _growth_row(few, watch), *_catalogue_rows(few // 4, watch)]


def _growth_row(few: int, watch: Watch) -> Row:
    """Return how the time grows with four times the shoppers."""
    short, long = (_measured(count, ITEMS, False, watch)["cpu_seconds"] for count in (few, 4 * few))
    words = f"CPU time of a round with {4 * few:,} shoppers / with {few:,}"
    return Row(measure=words, value=long / short, unit="ratio", target=4.4, at_least=False)


def _catalogue_rows(shoppers: int, watch: Watch) -> list[Row]:
    """Return how the time grows with the catalogue while shoppers and events stay the same."""
    words = f"counts, Gram over {HEAD:,} head items and one gradient round of {shoppers:,} shoppers"
    seconds = [_measured(shoppers, items, True, watch)["cpu_seconds"] for items in CATALOGUES]
    rows = [
        Row(measure=f"{words}, {items:,} items", value=value, unit="CPU-seconds")
        for items, value in zip(CATALOGUES, seconds, strict=True)
    ]
    smallest, largest = CATALOGUES[0], CATALOGUES[-1]
    asked = f"the same, {largest:,} items / {smallest:,} items (linear growth would be {largest // smallest})"
    ratio = seconds[-1] / seconds[0]
    return [
        *rows,
        Row(measure=asked, value=ratio, unit="ratio", target=largest / smallest / 10, at_least=False),
    ]


def _measured(shoppers: int, items: int, head_limited: bool, watch: Watch) -> dict[str, float]:
    """Return CPU seconds and peak memory of one round in a process of its own."""
    words = [str(shoppers), str(items), str(int(head_limited))]
    command = [sys.executable, "-m", "evaluation.bench.simulation_scale", *words]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    watch.step()
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure one round: `python -m evaluation.bench.simulation_scale SHOPPERS ITEMS HEAD_LIMITED`."""
    from evaluation.bench.peers.measuring import peak_gib

    shoppers, items, head_limited = map(int, sys.argv[1:])
    seconds = cpu_seconds_of(shoppers, items, head_limited=bool(head_limited))
    print(json.dumps({"cpu_seconds": seconds, "peak_gib": peak_gib()}))


if __name__ == "__main__":
    main()
