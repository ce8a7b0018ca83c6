"""Makes the vector index of a large catalogue, and takes the cheapest one that was seen to find enough.

Vectors are quantised to codes of 4 bits, in one of two ways. In steps (residual quantisation, Chen et al. 2010): each
takes the nearest of 16 vectors from what the steps before it left over, so that the strong directions of a trained
model get most of the bits. Or by coordinates (product quantisation, Jégou et al. 2011): rotated at random, so that
each carries as much, one or two to a code; that is better where no direction is strong. Both lie in the layout that
is scanned in registers (André et al. 2017). They are trained on a sample that favours long vectors: they are what an
inner product lists, and codes of typical items would tell them apart least.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from server.serving.index_coarse import Coarse

if TYPE_CHECKING:
    import faiss

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

EXACT_BELOW = 50_000
"""Items up to which comparing with all of them costs no more than asking an index first."""
RECALL = 0.985
"""Share of the exact best 100 that an index must find on held-out questions: a little above the promised 0.98."""
JUDGED_AT = 100

_BITS = 4
_STEPS = (16, 24, 32)
_COORDINATES_PER_CODE = (2, 1)
_FACTORS = (2, 4, 8, 16, 32)
_TRAINED_ON = 65_536
_LENGTH_POWER = 3
_ALIGNED_TO = 8
_WANTED = 50
"""Items that a question mostly wants, with those that are left out after."""
_ITEM_COST, _CODE_COST, _CANDIDATE_COST = 1.6e-4, 6e-6, 0.2
"""Microseconds per item, per item and code, and per candidate compared exactly; as measured, only to choose by."""

_log = logging.getLogger(__name__)


def build_coarse(vectors: Floats, questions: Floats) -> Coarse | None:
    """The cheapest index that finds `RECALL` for held-out `questions` (q, D); None where none does, or items are few.

    Without an index every item is compared with the question.
    """
    if len(vectors) < EXACT_BELOW:
        return None
    least = _least(vectors, questions)
    best: Coarse | None = None
    cost, recall = np.inf, 0.0
    for codes, quantised in _kinds(vectors):
        if _cost(len(vectors), codes, _FACTORS[0]) >= cost:
            break  # even at its best it costs more than what is good enough already
        coarse = _with_enough_candidates(vectors, questions, least, quantised())
        recall = max(recall, coarse.recall)
        if coarse.recall >= RECALL and _cost(len(vectors), codes, coarse.factor) < cost:
            best, cost = coarse, _cost(len(vectors), codes, coarse.factor)
    if best is None:
        _log.warning(
            "no index over the %d items finds %.3f of the best %d items of a question, the best one %.3f: "
            "each question is compared with every item, which takes longer",
            *(len(vectors), RECALL, JUDGED_AT, recall),
        )
    return best


def _kinds(vectors: Floats) -> Iterator[tuple[int, Callable[[], faiss.Index]]]:
    """What may be made, the least work first: how many codes a vector has, and what makes the index."""
    for steps in _STEPS:
        yield steps, partial(_in_steps, vectors, steps)
    dim = -(-vectors.shape[1] // _ALIGNED_TO) * _ALIGNED_TO
    for per_code in _COORDINATES_PER_CODE:
        yield dim // per_code, partial(_by_coordinates, vectors, dim, dim // per_code)


def _cost(items: int, codes: int, factor: int) -> float:
    """About how many microseconds a question takes."""
    return (_ITEM_COST + _CODE_COST * codes) * items + _CANDIDATE_COST * factor * _WANTED


def _with_enough_candidates(
    vectors: Floats, questions: Floats, least: Floats, faiss_index: faiss.Index
) -> Coarse:
    """An index with as few candidates as reach `RECALL`, or with the most where none does."""
    coarse = Coarse(faiss_index=faiss_index, items=len(vectors), factor=1, recall=0.0)
    for factor in _FACTORS:
        found = coarse.candidates(questions, factor * JUDGED_AT)
        recall = np.mean([_share(vectors, *judged) for judged in zip(questions, found, least, strict=True)])
        coarse = replace(coarse, factor=factor, recall=float(recall))
        if recall >= RECALL:
            break
    return coarse


def _in_steps(vectors: Floats, steps: int) -> faiss.Index:
    import faiss

    without_norms = faiss.AdditiveQuantizer.ST_LUT_nonorm
    index = faiss.IndexResidualQuantizerFastScan(
        vectors.shape[1], steps, _BITS, faiss.METRIC_INNER_PRODUCT, without_norms
    )
    index.rq.train_type, index.rq.max_beam_size = faiss.ResidualQuantizer.Train_default, 1
    return _filled(index, vectors)


def _by_coordinates(vectors: Floats, dim: int, codes: int) -> faiss.Index:
    import faiss

    rotation = faiss.RandomRotationMatrix(vectors.shape[1], dim)
    rotation.init(1)
    index = faiss.IndexPQFastScan(dim, codes, _BITS, faiss.METRIC_INNER_PRODUCT)
    return _filled(faiss.IndexPreTransform(rotation, index), vectors)


def _filled(index: faiss.Index, vectors: Floats) -> faiss.Index:
    import faiss

    faiss.omp_set_num_threads(1)
    index.train(_long_ones(vectors))
    for start in range(0, len(vectors), _TRAINED_ON):
        index.add(np.ascontiguousarray(vectors[start : start + _TRAINED_ON]))
    return index


def _long_ones(vectors: Floats) -> Floats:
    """A sample to train on, drawn in proportion to a power of the length."""
    likely = np.linalg.norm(vectors, axis=1).astype(np.float64) ** _LENGTH_POWER + 1e-12
    draws = np.random.default_rng(1).choice(len(vectors), size=_TRAINED_ON, p=likely / likely.sum())
    return vectors[draws]


def _least(vectors: Floats, questions: Floats) -> Floats:
    """The score of the last of the exact best of each question (q,)."""
    scores = (vectors @ question for question in questions)
    return np.array([np.partition(row, -JUDGED_AT)[-JUDGED_AT] for row in scores], dtype=np.float32)


def _share(vectors: Floats, question: Floats, found: Ints, least: float) -> float:
    """How many of the best there are among the found items; of items with one score any will do."""
    scores = vectors[found[found >= 0]] @ question
    return min(int(np.count_nonzero(scores >= least - 1e-5 * abs(least))), JUDGED_AT) / JUDGED_AT
