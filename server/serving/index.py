"""The items nearest to a question: inner products of one question vector with every item vector, and the largest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.serving.index_coarse import Coarse
from server.serving.kernels_search import best_of_proposed, largest_of_each

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

POPULAR = 100
"""Items with the largest priors that are compared whatever is proposed."""
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
        """Search the given vectors without copying them; `coarse` is an index over the first of them.

        The most popular items and those newer than `coarse` are compared in every search.
        """
        self.vectors = vectors
        self.exact = coarse is None
        self.recall = 1.0 if coarse is None else coarse.recall
        self.coarse = coarse
        self._barred = np.flatnonzero(~servable)
        if coarse is not None:
            self._proposable = servable.copy()
            self._always = _popular_and_newer(vectors, servable, coarse.items)
            self._proposable[self._always] = False

    def search(self, queries: Floats, m: int) -> tuple[Ints, Floats]:
        """The items with the largest inner products, best first, and these, for each row of `queries` (q, D).

        Returns (q, m') items and scores with m' = min(m, items). Where fewer items are servable, the row ends in
        items -1 with the score minus infinity.
        """
        m = min(m, len(self.vectors))
        count = self._candidates(m)
        if self.coarse is None or count > len(self.vectors) // _WORTH:
            return self._compare(queries, m)
        items, best = (
            np.empty((len(queries), m), dtype=np.int64),
            np.empty((len(queries), m), dtype=np.float32),
        )
        proposed = self.coarse.candidates(queries, count)
        best_of_proposed(self.vectors, queries, proposed, self._proposable, self._always, items, best)
        for row in np.flatnonzero(items[:, -1] < 0):
            items[row], best[row] = (found[0] for found in self._compare(queries[row : row + 1], m))
        return items, best

    def score(self, query: Floats, items: Ints) -> Floats:
        """Inner products (n,) of one question (D,) with the vectors of `items` (n,), exactly."""
        return self.vectors.take(items, axis=0) @ query

    def _candidates(self, m: int) -> int:
        """How many candidates to compare for `m` items, the more the more of them are barred."""
        servable = max(len(self.vectors) - len(self._barred), 1)
        return (self.coarse.factor if self.coarse else 1) * m * len(self.vectors) // servable

    def _compare(self, queries: Floats, m: int) -> tuple[Ints, Floats]:
        """Compare with every item."""
        single = len(queries) == 1
        # a product with a vector is many times as fast as with a matrix of one row
        scores = (self.vectors @ queries[0])[None] if single else queries @ self.vectors.T
        return largest(scores, m, self._barred)


def largest(scores: Floats, m: int, barred: Ints | None = None) -> tuple[Ints, Floats]:
    """The columns with the `m` largest scores of each row, best first, ties by column, and these scores.

    A score of minus infinity is nobody's, and those of the columns `barred` become so: the column is given as -1.
    """
    items = np.empty((len(scores), m), dtype=np.int64)
    best = np.empty((len(scores), m), dtype=np.float32)
    largest_of_each(scores, _NOBODY if barred is None else barred, items, best)
    return items, best


_NOBODY = np.empty(0, dtype=np.int64)


def _popular_and_newer(vectors: Floats, servable: npt.NDArray[np.bool_], known: int) -> Ints:
    """The servable items with the largest priors, and those from number `known` on."""
    older = np.flatnonzero(servable[:known])
    if len(older) > POPULAR:
        older = older[np.argpartition(vectors[older, -1], len(older) - POPULAR)[len(older) - POPULAR :]]
    return np.concatenate([np.sort(older), known + np.flatnonzero(servable[known:])])
