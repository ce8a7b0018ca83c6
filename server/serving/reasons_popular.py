"""Which items may be called popular: by the released, noisy counts alone."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from server.serving.index import VectorIndex
from server.serving.snapshot import Floats, Snapshot

TOP = 0.2
"""The share of a category, or of the whole catalogue, that is called popular in it."""
LEAST = 5
"""In a category of fewer items nothing is called popular."""


@dataclass(frozen=True, kw_only=True)
class Popularity:
    """(items,) which items are in the top of their category, and of the whole catalogue."""

    in_category: npt.NDArray[np.bool_]
    overall: npt.NDArray[np.bool_]


def popularity_of(snapshot: Snapshot) -> Popularity:
    """What is popular in a snapshot; found at the first call and then remembered."""
    known = _known.get(snapshot.index)
    if known is None:
        counts = np.array(snapshot.index.vectors[:, -1])
        codes = snapshot.items.category_codes
        in_category = _top(counts, codes) & (np.array(snapshot.items.categories) != "")[codes]
        known = Popularity(in_category=in_category, overall=_top(counts, np.zeros_like(codes)))
        _known[snapshot.index] = known
    return known


def _top(counts: Floats, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which items are in the top `TOP` of those of their code, and above the middle one where many tie."""
    order = np.lexsort((counts, codes))
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    last = max(len(counts) - 1, 0)
    sorted_counts = counts[order]
    bound = sorted_counts[np.minimum(starts + np.ceil((1 - TOP) * sizes).astype(np.int64), last)]
    middle = sorted_counts[np.minimum(starts + sizes // 2, last)]
    return np.asarray((counts >= bound[codes]) & (counts > middle[codes]) & (sizes[codes] >= LEAST))


_known: WeakKeyDictionary[VectorIndex, Popularity] = WeakKeyDictionary()
