"""The vector index beside an exact matrix product and top-k: what a question costs, and what is found.

The vectors are simulated from constants of a model that was trained on the embedded set `completejourney`: singular
values that fall as k ** -0.42, three quarters of the variance between groups of items, and a few items that are many
times as long as the typical one, which are also the liked ones. A second set has no structure at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.bench.ranking_index_memory import memory_rows
from evaluation.bench.rows import Row
from evaluation.settings import Watch
from model.features import SURFACES
from model.fusion import fusion_weights
from server.serving.index import VectorIndex
from server.serving.index_build import JUDGED_AT, build_coarse
from server.serving.index_questions import likely_questions

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

DIM = 64
_GROUPS = 512
_FALL = 0.42
_OWN_SHARE = 0.24
_SPELLS, _CALLS = 7, 10
_BATCH = 16
_SEED_OF_JUDGES = 77
"""Other shoppers than those that an index is built with."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Item vectors to search: rows [v | prior] (items, DIM + 1), and the group of each item."""

    words: str
    vectors: Floats
    groups: Ints


def rows(*, quick: bool, watch: Watch) -> list[Row]:
    """Speed and recall of the index by size and shape, and the memory of what a worker opens."""
    found = []
    for items in (100_000,) if quick else (10_000, 100_000, 1_000_000):
        watch.begin(f"vector index: {items} items of a trained model's shape", 1)
        found += _index_rows(trained_shape(items), target=12.0 if items == 1_000_000 else None)
    watch.begin("vector index: 100000 items without structure", 1)
    found += _index_rows(unstructured(100_000), target=None)
    shape = trained_shape(100_000 if quick else 1_000_000)
    watch.begin("vector index: memory of two workers", 1)
    return found + memory_rows(shape.vectors, shape.groups, questions_for(shape, 2, 256))


def trained_shape(items: int) -> Shape:
    """Vectors of a trained model's shape; the length of an item goes with its prior."""
    draws = np.random.default_rng(items)
    groups = _group_of_each(draws, items)
    strength = np.arange(1, DIM + 1, dtype=np.float32) ** -_FALL
    centres = draws.standard_normal((_GROUPS, DIM), dtype=np.float32) * np.sqrt(1 - _OWN_SHARE)
    own = draws.standard_normal((items, DIM), dtype=np.float32) * np.sqrt(_OWN_SHARE)
    longer = 1 + 0.3 * draws.pareto(2.2, size=items)
    vectors = (centres[groups] + own) * strength * longer[:, None] / 3
    prior = 1.5 * np.log(longer) - 0.5 + 0.4 * draws.standard_normal(items)
    return Shape(
        words="a trained model's shape, simulated",
        vectors=np.concatenate([vectors, prior[:, None]], axis=1, dtype=np.float32),
        groups=groups,
    )


def unstructured(items: int) -> Shape:
    """Vectors without groups or strong directions: the hardest there are."""
    draws = np.random.default_rng(items)
    vectors = draws.standard_normal((items, DIM + 1), dtype=np.float32)
    return Shape(words="no structure, random", vectors=vectors, groups=_group_of_each(draws, items))


def _group_of_each(draws: np.random.Generator, items: int) -> Ints:
    shares = draws.pareto(1.5, size=_GROUPS) + 0.1
    return draws.choice(_GROUPS, size=items, p=shares / shares.sum()).astype(np.int32)


def questions_for(shape: Shape, seed: int, count: int) -> Floats:
    """Questions of made-up shoppers on every surface, by the constants of an unlearned fusion."""
    fusion = fusion_weights({"prior_scale": np.full(1, 0.3, dtype=np.float32)})
    gain = np.ones(DIM, dtype=np.float32)
    return likely_questions(shape.vectors, DIM, shape.groups, fusion, gain, count=count, seed=seed)


def _index_rows(shape: Shape, *, target: float | None) -> list[Row]:
    """One question at a time: CPU time beside the exact product and top-k, measured in turn, and recall."""
    items = len(shape.vectors)
    built = time.perf_counter()
    coarse = build_coarse(shape.vectors, questions_for(shape, 2, 256))
    built = time.perf_counter() - built
    index = VectorIndex(shape.vectors, np.ones(items, dtype=np.bool_), coarse)
    questions = questions_for(shape, _SEED_OF_JUDGES, 20 * len(SURFACES))
    exact_s, index_s = _in_turn(
        lambda row: _product_and_top(shape.vectors, questions[row]),
        lambda row: index.search(questions[row : row + 1], JUDGED_AT),
    )
    _, batch_s = _in_turn(
        lambda row: None, lambda row: index.search(questions[row : row + _BATCH], JUDGED_AT)
    )
    name = f"{items} x {DIM}, {shape.words}"
    return [
        Row(
            measure=f"index query, {name}: exact product and top-{JUDGED_AT} / index",
            value=exact_s / index_s,
            unit="ratio of CPU times",
            target=target,
        ),
        Row(
            measure=f"recall@{JUDGED_AT}, {name}",
            value=_recall(index, shape.vectors, questions),
            unit="share",
            target=0.98,
        ),
        Row(measure=f"index query, {name}", value=1e6 * index_s, unit="CPU microseconds"),
        Row(
            measure=f"index query in batches of {_BATCH}, {name}",
            value=1e6 * batch_s / _BATCH,
            unit="CPU microseconds each",
        ),
        Row(measure=f"making the index, {name}", value=built, unit="seconds"),
    ]


def _product_and_top(vectors: Floats, question: Floats) -> Ints:
    scores = vectors @ question
    best = np.argpartition(scores, -JUDGED_AT)[-JUDGED_AT:]
    return best[np.argsort(-scores[best])].astype(np.int32)


def _in_turn(first: Callable[[int], object], second: Callable[[int], object]) -> tuple[float, float]:
    """Median CPU seconds of two calls, made in spells in turn, so that what else the machine does falls on both."""
    taken = np.empty((_SPELLS, 2))
    for spell in range(_SPELLS):
        for column, call in enumerate((first, second)):
            before = time.process_time()
            for row in range(_CALLS):
                call(row)
            taken[spell, column] = (time.process_time() - before) / _CALLS
    medians = np.median(taken, axis=0)
    return float(medians[0]), float(medians[1])


def _recall(index: VectorIndex, vectors: Floats, questions: Floats) -> float:
    """Mean share of the exact best that are found; of items with one score any will do."""
    shares = []
    for question in questions:
        least = np.partition(vectors @ question, -JUDGED_AT)[-JUDGED_AT]
        scores = index.search(question[None], JUDGED_AT)[1][0]
        shares.append(np.mean(scores >= least - 1e-5 * abs(least)))
    return float(np.mean(shares))
