"""Accuracy of a full ranking: every item that the shopper has not yet had competes.

Definitions are those of `ranx` 0.3.21 with binary relevance, per shopper, at depth k:

* precision = hits / k; recall = hits / relevant; f1 = their harmonic mean;
* ndcg = DCG / ideal DCG with gain 1 and discount log2(rank + 1) (Jarvelin and Kekalainen 2002);
* mrr = 1 / rank of the first hit, 0 without one;
* map = sum of the precisions at each hit / relevant (not / min(k, relevant));
* auc = share of (relevant, other) candidate pairs in the right order, a tie counts half (Mann, Whitney 1947).

Equal scores are ordered by item index, lowest first, so that every list is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from evaluation.errors import ScoresError

Floats: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[np.floating]
Indices: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

ACCURACY: tuple[str, ...] = ("precision", "recall", "f1", "ndcg", "mrr", "map")
"""Names of the accuracy metrics at k; with the depth they read like `ndcg@10`."""
NOBODY = -1
"""Filler of a list that is shorter than k because no candidate was left."""


def masked(scores: Scores, seen: sp.csr_matrix[np.float32]) -> Scores:
    """A copy of `scores` (shoppers, items) with minus infinity at the items already seen.

    Raises ScoresError for another shape or for a score that is not a finite number.
    """
    if scores.shape != seen.shape:
        raise ScoresError(f"scores have shape {scores.shape}, expected (shoppers, items) = {seen.shape}")
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        raise ScoresError("a score is NaN or infinite; look for a diverged training or a division by zero")
    candidates = scores.copy()
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(seen.indptr))
    candidates[rows, seen.indices] = -np.inf
    return candidates


def top_items(candidates: Scores, k: int) -> Indices:
    """The k best candidates of each row, best first: (shoppers, k) item indices.

    Equal scores rank by item index. Items at minus infinity are no candidates; NOBODY fills a short list.
    """
    k_here = min(k, candidates.shape[1])
    kth = -np.partition(-candidates, k_here - 1, axis=1)[:, k_here - 1 : k_here]
    above = candidates > kth
    ties = candidates == kth
    room = k_here - above.sum(axis=1, keepdims=True)
    chosen = above | (ties & (np.cumsum(ties, axis=1) <= room))
    top = np.nonzero(chosen)[1].reshape(-1, k_here)
    best = np.take_along_axis(candidates, top, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    top = np.where(np.isneginf(best), NOBODY, top)
    top = np.take_along_axis(top, order, axis=1)
    return np.pad(top, ((0, 0), (0, k - k_here)), constant_values=NOBODY).astype(np.int64)


def hits_of(top: Indices, relevant: sp.csr_matrix[np.float32]) -> Flags:
    """Which places of the lists (shoppers, k) hold a relevant item."""
    dense: Flags = relevant.toarray() > 0
    hits: Flags = np.take_along_axis(dense, np.maximum(top, 0), axis=1)
    found: Flags = hits & (top != NOBODY)
    return found


def list_metrics(hits: Flags, relevant: Indices, ks: Sequence[int]) -> dict[str, Floats]:
    """Accuracy at every depth: `{"ndcg@10": (shoppers,), ...}`.

    `hits` (shoppers, >= max k) says which places hit, `relevant` (shoppers,) how many items could (>= 1).
    """
    results: dict[str, Floats] = {}
    for k in ks:
        at_k = _metrics_at(hits[:, :k], relevant.astype(np.float64), k)
        results |= {f"{name}@{k}": values for name, values in at_k.items()}
    return results


def _metrics_at(hits: Flags, relevant: Floats, k: int) -> dict[str, Floats]:
    """The metrics of ACCURACY at one depth."""
    places = np.arange(1, hits.shape[1] + 1, dtype=np.float64)
    found = hits.sum(axis=1, dtype=np.float64)
    precision, recall = found / k, found / relevant
    discounts = 1.0 / np.log2(places + 1.0)
    ideal = np.cumsum(discounts)[np.minimum(relevant, k).astype(np.int64) - 1]
    first = np.argmax(hits, axis=1) + 1.0
    both = precision + recall
    precisions = np.cumsum(hits, axis=1) / places
    return {
        "precision": precision,
        "recall": recall,
        "f1": np.divide(2 * precision * recall, both, out=np.zeros_like(found), where=found > 0),
        "ndcg": (hits * discounts).sum(axis=1) / ideal,
        "mrr": np.where(found > 0, 1.0 / first, 0.0),
        "map": (precisions * hits).sum(axis=1) / relevant,
    }


def auc(candidates: Scores, relevant: sp.csr_matrix[np.float32]) -> Floats:
    """Area under the ROC curve over all candidates of each row (those above minus infinity): (shoppers,).

    Ties are settled by mid-ranks. A row whose candidates are all relevant has nothing to tell apart: 0.5.
    """
    ascending = np.sort(candidates, axis=1)
    excluded = np.isneginf(ascending).sum(axis=1)
    areas = np.full(candidates.shape[0], 0.5)
    for row in range(candidates.shape[0]):
        mine = relevant.indices[relevant.indptr[row] : relevant.indptr[row + 1]]
        scores, pool = candidates[row, mine], ascending[row, excluded[row] :]
        positives, negatives = mine.size, pool.size - mine.size
        if positives and negatives:
            below, upto = np.searchsorted(pool, scores, "left"), np.searchsorted(pool, scores, "right")
            ranks = (below + upto + 1).sum() / 2.0
            areas[row] = (ranks - positives * (positives + 1) / 2.0) / (positives * negatives)
    return areas
