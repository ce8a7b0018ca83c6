"""The items nearest to a question: inner products of one question vector with every item vector, and the largest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_BLOCK = 16
"""Items whose largest score stands for all of them when the cut is looked for."""


class VectorIndex:
    """An index over (items, D) vectors; only items of the mask `servable` are found.

    Attributes:
        vectors: (items, D) float32: for item i the row [v_i | w_i | prior of i].
    """

    def __init__(self, vectors: Floats, servable: npt.NDArray[np.bool_]) -> None:
        """Search the given vectors; neither array is copied."""
        self.vectors = vectors
        self._barred = np.flatnonzero(~servable)

    def search(self, queries: Floats, m: int) -> tuple[Ints, Floats]:
        """The items with the largest inner products, best first, and these, for each row of `queries` (q, D).

        Returns (q, m') items and scores with m' = min(m, items). Where fewer items are found, the row ends in
        items -1 with the score minus infinity.
        """
        scores = queries @ self.vectors.T
        scores[:, self._barred] = -np.inf
        return largest(scores, min(m, len(self.vectors)))

    def score(self, query: Floats, items: Ints) -> Floats:
        """Inner products (n,) of one question (D,) with the vectors of `items` (n,), exactly."""
        return np.asarray(self.vectors[items] @ query, dtype=np.float32)


def largest(scores: Floats, m: int) -> tuple[Ints, Floats]:
    """The columns with the `m` largest scores of each row, best first, ties by column, and these scores.

    A score of minus infinity is nobody's: its column is given as -1.
    """
    found = [_largest_of(row, m) for row in scores]
    items = np.stack([columns for columns, _ in found])
    best = np.stack([values for _, values in found])
    return np.where(np.isneginf(best), -1, items), best


def _largest_of(scores: Floats, m: int) -> tuple[Ints, Floats]:
    """The `m` largest of one row.

    The m-th largest of the blocks' maxima is at most the m-th largest score, so that nothing below it counts:
    one pass instead of a partition of all scores.
    """
    blocks = len(scores) // _BLOCK
    candidates = np.arange(len(scores))
    if blocks > m:
        maxima = scores[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        cut = np.partition(maxima, blocks - m)[blocks - m]
        candidates = np.flatnonzero(scores >= cut)
    values = scores[candidates]
    order = np.argsort(-values, kind="stable")[:m]
    return candidates[order], values[order]
