"""What lists are like besides being right: how much of the catalogue they show, how new, how varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from evaluation.errors import EvaluationError
from evaluation.metrics import NOBODY, Floats, Indices

BEYOND: tuple[str, ...] = ("coverage", "novelty", "diversity")
"""Names of these metrics at k; with the depth they read like `coverage@10`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """When two items are alike: the cosine of two rows of `vectors` (items, dims), each of norm 1 or 0."""

    basis: str  # words for the report
    vectors: sp.csr_matrix[np.float64]

    @classmethod
    def by_category(cls, categories: Sequence[str | None]) -> Likeness:
        """Items of one category are alike (1), others not (0); an unknown category is like no other."""
        names = sorted({name for name in categories if name is not None})
        column = {name: index for index, name in enumerate(names)}
        known = [(row, column[name]) for row, name in enumerate(categories) if name is not None]
        rows, columns = np.array(known, dtype=np.int64).reshape(-1, 2).T
        shape = (len(categories), max(1, len(names)))
        return cls(
            basis="category", vectors=sp.csr_matrix((np.ones(len(known)), (rows, columns)), shape=shape)
        )

    @classmethod
    def by_vectors(cls, vectors: npt.NDArray[np.floating]) -> Likeness:
        """Cosine of the given item vectors (items, dims); a zero vector is like no other."""
        wide = vectors.astype(np.float64)
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        unit = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
        return cls(basis="cosine of item vectors", vectors=sp.csr_matrix(unit))


def shown(top: Indices, items: int) -> sp.csr_matrix[np.float64]:
    """Lists (shoppers, k) as ones in a (shoppers, items) matrix."""
    rows, places = np.nonzero(top != NOBODY)
    ones = np.ones(rows.size, dtype=np.float64)
    return sp.csr_matrix((ones, (rows, top[rows, places])), shape=(top.shape[0], items))


def coverage(top: Indices, items: int) -> float:
    """Share of the catalogue that appears in at least one list."""
    return np.unique(top[top != NOBODY]).size / items


def novelty(top: Indices, shoppers_per_item: npt.NDArray[np.integer], shoppers: int) -> Floats:
    """Mean self-information of each list, in bits: (shoppers,).

    An item's is -log2((shoppers who have it in train + 1) / (shoppers + 1)) (Zhou et al. 2010, smoothed by
    one so that an item nobody had stays finite). An empty list has 0.
    """
    information = -np.log2((shoppers_per_item.astype(np.float64) + 1.0) / (shoppers + 1.0))
    lists = shown(top, information.size)
    sizes = np.diff(lists.indptr)
    return np.asarray((lists @ information) / np.maximum(sizes, 1), dtype=np.float64)


def diversity(top: Indices, likeness: Likeness) -> Floats:
    """One minus the mean likeness of all pairs in each list: (shoppers,); a list under two items has 0.

    Intra-list diversity of Ziegler et al. 2005. The mean over pairs comes from sums alone:
    (|sum of v|^2 - sum of |v|^2) / (k (k - 1)).
    """
    items = likeness.vectors.shape[0]
    if top.size and top.max() >= items:
        raise EvaluationError(
            f"likeness knows {items} items, a list holds item index {top.max()}; give all items"
        )
    lists = shown(top, items)
    total = (lists @ likeness.vectors).power(2).sum(axis=1)
    own = lists @ np.asarray(likeness.vectors.power(2).sum(axis=1))
    sizes = np.diff(lists.indptr)
    pairs = (sizes * (sizes - 1)).astype(np.float64)
    together = np.asarray(total).ravel() - np.asarray(own).ravel()
    alike = np.divide(together, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    return np.where(pairs > 0, 1.0 - alike, 0.0)
