"""Makes the vector index of a large catalogue, and takes the cheapest one that was seen to find enough.

Vectors are rotated at random, so that every coordinate carries as much, and quantised to 4 bits for each one or two
coordinates (product quantisation, Jégou et al. 2011) in the layout that is scanned in registers (André et al. 2017).
The codebooks are trained on a sample that favours long vectors: they are what an inner product lists, and codebooks
of typical items would tell them apart least.
"""

from __future__ import annotations

import logging
from dataclasses import replace
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

_COORDINATES_PER_CODE = (2, 1)
_FACTORS = (2, 4, 8, 16, 32)
_TRAINED_ON = 65_536
_LENGTH_POWER = 3
_ALIGNED_TO = 8
_SCAN_COST, _CANDIDATE_COST = 2e-5, 0.25
"""Microseconds per item and code, and per candidate compared exactly; as measured, only to choose by."""

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
    for per_code in _COORDINATES_PER_CODE:
        if _cost(vectors, per_code, _FACTORS[0]) >= cost:
            break  # even at its best it costs more than what is good enough already
        coarse = _with_enough_candidates(vectors, questions, least, per_code)
        recall = max(recall, coarse.recall)
        if coarse.recall >= RECALL and _cost(vectors, per_code, coarse.factor) < cost:
            best, cost = coarse, _cost(vectors, per_code, coarse.factor)
    if best is None:
        _log.warning(
            "no index over the %d items finds %.3f of the best %d items of a question, the best one %.3f: "
            "each question is compared with every item, which takes longer",
            *(len(vectors), RECALL, JUDGED_AT, recall),
        )
    return best


def _cost(vectors: Floats, per_code: int, factor: int) -> float:
    """About how many microseconds a question takes."""
    return _SCAN_COST * vectors.size / per_code + _CANDIDATE_COST * factor * JUDGED_AT


def _with_enough_candidates(vectors: Floats, questions: Floats, least: Floats, per_code: int) -> Coarse:
    """A quantiser with as few candidates as reach `RECALL`, or with the most where none does."""
    coarse = Coarse(faiss_index=_quantised(vectors, per_code), items=len(vectors), factor=1, recall=0.0)
    for factor in _FACTORS:
        found = coarse.candidates(questions, factor * JUDGED_AT)
        recall = np.mean([_share(vectors, *judged) for judged in zip(questions, found, least, strict=True)])
        coarse = replace(coarse, factor=factor, recall=float(recall))
        if recall >= RECALL:
            break
    return coarse


def _quantised(vectors: Floats, per_code: int) -> faiss.Index:
    import faiss

    faiss.omp_set_num_threads(1)
    dim = -(-vectors.shape[1] // _ALIGNED_TO) * _ALIGNED_TO
    rotation = faiss.RandomRotationMatrix(vectors.shape[1], dim)
    rotation.init(1)
    codes = faiss.index_factory(dim, f"PQ{dim // per_code}x4fs", faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexPreTransform(rotation, codes)
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
