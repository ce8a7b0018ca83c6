"""Item neighbours: cosine of the item columns of the binary matrix (Sarwar et al. 2001)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from evaluation.baselines import best_of
from evaluation.metrics import Indices, Scores
from evaluation.protocol import Scorer
from evaluation.split import Csr, Split

NEIGHBOURS: tuple[int, ...] = (200, 50, 20)
"""How many neighbours an item may have; chosen on a validation cut of train, the first is the default."""

_CELLS = 8_000_000  # similarities held at once


def item_neighbours(split: Split, seed: int) -> Scorer:
    """Score an item by its summed similarity to the shopper's items, each item keeping its k nearest."""
    best = best_of(NEIGHBOURS, _fitter, split, seed)
    return _scorer(split.positives, neighbours(split.positives, best))


def neighbours(positives: Csr, k: int) -> Csr:
    """The k most similar other items of every item: (items, items), row = item, similarities > 0, best first.

    Worked out in blocks of rows, so that memory stays flat for any catalogue. Of equals the lower index is
    nearer.
    """
    items = positives.shape[1]
    audience = np.bincount(positives.indices, minlength=items)
    unit = sp.csr_matrix(positives, copy=True)
    unit.data = (unit.data / np.sqrt(audience[unit.indices])).astype(np.float32)
    by_item = sp.csr_matrix(unit.T)
    block = max(1, _CELLS // items)
    parts = [_nearest(by_item[start : start + block] @ unit, start, k) for start in range(0, items, block)]
    return sp.csr_matrix(sp.vstack(parts, format="csr"))


def _nearest(similar: Csr, start: int, k: int) -> Csr:
    """The k largest of each row, best first; row r is item start + r, which is no neighbour of itself."""
    similar.sort_indices()
    values, columns, sizes = [], [], [0]
    for row in range(similar.shape[0]):
        inside = slice(similar.indptr[row], similar.indptr[row + 1])
        mine = similar.indices[inside] != start + row
        value, column = similar.data[inside][mine], similar.indices[inside][mine]
        strong = np.arange(value.size)
        if value.size > k:
            strong = np.flatnonzero(value >= np.partition(value, -k)[-k])
        best = strong[np.argsort(-value[strong], kind="stable")][:k]
        values.append(value[best])
        columns.append(column[best])
        sizes.append(best.size)
    body = (np.concatenate(values), np.concatenate(columns), np.cumsum(sizes))
    return sp.csr_matrix(body, shape=similar.shape)


def _fitter(inner: Split) -> Callable[[int], Scorer]:
    """Neighbours of the validation cut, worked out once for all k."""
    nearest = neighbours(inner.positives, max(NEIGHBOURS))
    place = np.arange(nearest.nnz) - np.repeat(nearest.indptr[:-1], np.diff(nearest.indptr))

    def fit(k: int) -> Scorer:
        kept = nearest.copy()
        kept.data = np.where(place < k, nearest.data, np.float32(0.0))
        return _scorer(inner.positives, kept)

    return fit


def _scorer(positives: Csr, nearest: Csr) -> Scorer:
    """Sum over those of a candidate's neighbours that the shopper has."""
    towards = sp.csr_matrix(nearest.T)

    def score(shoppers: Indices) -> Scores:
        return (positives[shoppers] @ towards).toarray()

    return score
