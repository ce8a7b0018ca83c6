"""Baskets: what one shopper took together, and the bounded share of it that a cohort adds to a sum.

A visit is a longest run of one shopper's events in which each follows the one before within `VISIT_GAP`. A basket is
the distinct items of the named kinds in one visit. Shops that stamp all lines of a purchase alike need no gap; with
a clock of days a visit is a day. Without a clock nobody knows what was taken together: the stage is left out then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.contribution import ROUNDING, triangle_of
from model.features import KINDS, Histories

Array = NDArray[np.float64]

VISIT_GAP = 30 * 60
"""Longest pause inside a visit, in seconds."""


def visits_of(histories: Histories) -> NDArray[np.int64]:
    """Return the number of the visit that each event belongs to, (events,), rising over all shoppers."""
    begins = np.ones(len(histories.items), dtype=np.bool_)
    begins[1:] = (np.diff(histories.rows) > 0) | (np.diff(histories.times) > VISIT_GAP)
    return np.cumsum(begins) - 1


@dataclass(frozen=True)
class Baskets:
    """Baskets of many shoppers.

    Attributes:
        indptr: (shoppers + 1,) shopper s owns the baskets indptr[s]:indptr[s + 1].
        taken: (baskets, items) sparse ones.
    """

    indptr: NDArray[np.int64]
    taken: sp.csr_matrix

    @classmethod
    def of(cls, histories: Histories, kinds: frozenset[str], items: int) -> Self:
        """Read the baskets of at least two items, out of a catalogue of `items`; a lone item goes with nothing."""
        chosen = np.isin(histories.kinds, [KINDS.index(kind) for kind in kinds])
        visit = visits_of(histories)
        pairs = np.unique(visit[chosen] * items + histories.items[chosen])
        visits, columns = np.divmod(pairs, max(items, 1))
        sizes = np.bincount(visits, minlength=1)
        together = sizes[visits] > 1
        numbers, rows = np.unique(visits[together], return_inverse=True)
        taken = sp.csr_matrix(
            (np.ones(len(rows)), (rows, columns[together])), shape=(len(numbers), max(items, 1))
        )
        first_visit = np.append(visit, np.iinfo(np.int64).max)[histories.indptr]
        return cls(np.searchsorted(numbers, first_visit).astype(np.int64), taken)


def basket_share(baskets: Baskets, axes: NDArray[np.float32], clipping_norm: float) -> Array:
    """Return sum over shoppers of the upper triangle of C M / |M|, (k (k + 1) / 2,).

    M = sum over baskets b of (z z^T - sum over items i of b of p_i p_i^T) / |b|: p_i is row i of `axes` (items, k),
    and z their sum over the basket. It is sum x_b x_b^T without the diagonal, read in the axes, where |b| keeps one
    long basket from speaking for all. |M| is the Frobenius norm, so every share has norm exactly C; where nothing
    but rounding is left of M the share is zero.
    """
    table = np.asarray(axes, dtype=np.float64)
    sizes = np.asarray(baskets.taken.sum(axis=1), dtype=np.float64).ravel()
    total = np.zeros((table.shape[1],) * 2)
    for first, last in zip(baskets.indptr[:-1], baskets.indptr[1:], strict=True):
        if first < last:
            total += _unit_moment(baskets.taken[first:last], sizes[first:last], table)
    return clipping_norm * triangle_of(total)


def _unit_moment(taken: sp.csr_matrix, sizes: Array, table: Array) -> Array:
    """Return M / |M| of one shopper's baskets, or zeros where M is a rounding error or |M| is not finite."""
    weights = 1.0 / sizes
    columns = np.unique(taken.indices)
    rows = table[columns]
    own = taken[:, columns]
    together = np.asarray(own @ rows)
    moment = (together * weights[:, None]).T @ together
    alone = (rows * np.asarray(own.T @ weights)[:, None]).T @ rows
    length, whole = float(np.linalg.norm(moment - alone)), float(np.trace(moment) + np.trace(alone))
    if not ROUNDING * whole < length < np.inf:
        return np.zeros_like(moment)
    return np.asarray((moment - alone) / length)
