"""Parts of contributions put back in their place: merchants cover their own items, devices cover all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.spectral import symmetric
from proto.federation import DEVICES, MERCHANT_PART

Array = NDArray[np.float64]
Owners = Mapping[str, NDArray[np.int64]]


def triangle(side: int) -> int:
    """Return the number of entries of an upper triangle with its diagonal."""
    return side * (side + 1) // 2


def scatter_counts(totals: Mapping[str, Array], owners: Owners, items: int) -> Array:
    """Return counts over the whole catalogue, (items,): devices' plus each merchant's at its own items."""
    counts = totals.get(DEVICES, np.zeros(items)).copy()
    for name, own in owners.items():
        counts[own] += totals.get(MERCHANT_PART + name, np.zeros(len(own)))
    return counts


def scatter_gram(totals: Mapping[str, Array], owners: Owners, side: int) -> Array:
    """Return the Gram triangle over all head items, (side (side + 1) / 2,): devices' plus merchants' blocks."""
    upper = totals.get(DEVICES, np.zeros(triangle(side))).copy()
    starts = np.arange(side) * side - np.arange(side) * (np.arange(side) - 1) // 2
    for name, own in owners.items():
        rows, columns = np.triu_indices(len(own))
        place = starts[own[rows]] + own[columns] - own[rows]
        upper[place] += totals.get(MERCHANT_PART + name, np.zeros(len(rows)))
    return upper


def gram_of(upper: Array) -> Array:
    """Return a symmetric matrix from a released triangle, whose entries off the diagonal carry a factor sqrt(2)."""
    full = symmetric(upper)
    diagonal = np.eye(len(full), dtype=bool)
    return np.where(diagonal, full, full / np.sqrt(2.0))
