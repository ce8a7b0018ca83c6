"""Released parts put back in their place: where merchants are alone, each has a part of its own items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.spectral import symmetric
from proto.federation import DEVICES, MERCHANT_PART

Array = NDArray[np.float64]
Owners = Mapping[str, NDArray[np.int64]]


def scatter_counts(totals: Mapping[str, Array], owners: Owners, items: int) -> Array:
    """Return counts over the whole catalogue, (items,): the one part of all items, or each merchant's at its own."""
    if DEVICES in totals:
        return totals[DEVICES]
    counts = np.zeros(items)
    for name, own in owners.items():
        counts[own] = totals[MERCHANT_PART + name]
    return counts


def gram_of(upper: Array) -> Array:
    """Return a symmetric matrix from a released triangle, whose entries off the diagonal carry a factor sqrt(2)."""
    full = symmetric(upper)
    diagonal = np.eye(len(full), dtype=bool)
    return np.where(diagonal, full, full / np.sqrt(2.0))
