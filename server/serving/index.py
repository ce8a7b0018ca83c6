"""The items nearest to a question: inner products of one question vector with every item vector, and the largest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.serving.index_coarse import Coarse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_BLOCK = 16
"""Items of which the best stands for all when the cut is looked for."""
_WORTH = 4
"""Comparing all items costs less than choosing among more than this part of them."""


class VectorIndex:
    """An index over (items, D) vectors; only items of the mask `servable` are found.

    Attributes:
        vectors: (items, D) float32: for item i the row [v_i | w_i | prior of i].
        coarse: the index that proposes candidates, if there is one.
        exact: whether a search finds what comparing with every item finds; else nearly that.
        recall: share of the exact best 100 that it finds, as measured when it was built.
    """

    def __init__(
        self, vectors: Floats, servable: npt.NDArray[np.bool_], coarse: Coarse | None = None
    ) -> None:
        """Search the given vectors without copying them; `coarse` is an index over the first of them."""
        self.vectors = vectors
        self.exact = coarse is None
        self.recall = 1.0 if coarse is None else coarse.recall
        self._servable = servable
        self._barred = np.flatnonzero(~servable)
        self.coarse = coarse
        self._newer = np.arange(coarse.items if coarse else 0, len(vectors))

    def search(self, queries: Floats, m: int) -> tuple[Ints, Floats]:
        """The items with the largest inner products, best first, and these, for each row of `queries` (q, D).

        Returns (q, m') items and scores with m' = min(m, items). Where fewer items are servable, the row ends in
        items -1 with the score minus infinity.
        """
        m = min(m, len(self.vectors))
        count = self._candidates(m)
        if self.coarse is None or count > len(self.vectors) // _WORTH:
            return self._compare(queries, m)
        proposed = self.coarse.candidates(queries, count)
        found = [self._best(query, row[row >= 0], m) for query, row in zip(queries, proposed, strict=True)]
        return np.stack([items for items, _ in found]), np.stack([scores for _, scores in found])

    def score(self, query: Floats, items: Ints) -> Floats:
        """Inner products (n,) of one question (D,) with the vectors of `items` (n,), exactly."""
        return self.vectors.take(items, axis=0) @ query

    def _candidates(self, m: int) -> int:
        """How many candidates to compare for `m` items, the more the more of them are barred."""
        servable = max(len(self.vectors) - len(self._barred), 1)
        return (self.coarse.factor if self.coarse else 1) * m * len(self.vectors) // servable

    def _compare(self, queries: Floats, m: int) -> tuple[Ints, Floats]:
        single = (
            len(queries) == 1
        )  # a product with a vector is many times as fast as with a matrix of one row
        scores = (self.vectors @ queries[0])[None] if single else queries @ self.vectors.T
        scores[:, self._barred] = -np.inf
        return largest(scores, m)

    def _best(self, query: Floats, proposed: Ints, m: int) -> tuple[Ints, Floats]:
        """The best of the candidates and of all items newer than the index; of all items where these are too few."""
        items = np.concatenate([proposed, self._newer]) if self._newer.size else proposed
        if self._barred.size:
            items = items[self._servable[items]]
        if items.size < m:
            found, scores = self._compare(query[None], m)
            return found[0], scores[0]
        places, scores = _largest_of(self.score(query, items), m)
        return items[places], scores


def largest(scores: Floats, m: int) -> tuple[Ints, Floats]:
    """The columns with the `m` largest scores of each row, best first, ties by column, and these scores.

    A score of minus infinity is nobody's: its column is given as -1.
    """
    items = np.empty((len(scores), m), dtype=np.int64)
    best = np.empty((len(scores), m), dtype=np.float32)
    for row, values in enumerate(scores):
        items[row], best[row] = _largest_of(values, m)
    items[np.isneginf(best)] = -1
    return items, best


def _largest_of(scores: Floats, m: int) -> tuple[Ints, Floats]:
    """The `m` largest of one row.

    The m-th largest of the blocks' maxima is at most the m-th largest score: so much less is left to sort.
    """
    blocks = len(scores) // _BLOCK
    maxima = scores[: blocks * _BLOCK].reshape(_BLOCK, blocks).max(axis=0) if blocks > m else scores
    cut = np.partition(maxima, -m)[-m]
    candidates = np.flatnonzero(scores >= cut)
    values = scores[candidates]
    order = np.argsort(-values, kind="stable")[:m]
    return candidates[order], values[order]
