"""Small compiled loops, where numpy's price of a call is more than the work.

Importing this module takes 0.2 s of processor time, and some seconds where nothing is compiled yet: machine code is
kept beside the sources, or in the home folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.compiling import compiled, compiled_for

Array = npt.NDArray[Any]


@compiled
def falling(values: Array) -> Array:
    """Return the order in which values fall, equal ones as they stand: runs are merged until one is left."""
    size = len(values)
    order, merged = np.arange(size), np.empty(size, dtype=np.int64)
    width = 1
    while width < size:
        for start in range(0, size, 2 * width):
            left, right = start, min(start + width, size)
            middle, end = right, min(start + 2 * width, size)
            for place in range(start, end):
                from_left = right >= end or (left < middle and values[order[left]] >= values[order[right]])
                merged[place] = order[left] if from_left else order[right]
                left, right = left + from_left, right + (not from_left)
        order, merged = merged, order
        width *= 2
    return order


@compiled
def _holds(values: Array, value: int) -> bool:
    """Return whether a value is among others."""
    found = False
    for other in values:
        found |= other == value
    return found


@compiled_for("int64(int64[::1], int64[::1], boolean[::1], int64, int64[::1])")
def distinct_items(items: Array, kinds: Array, counting: Array, anchor: int, found: Array) -> int:
    """Write the anchor (-1: none) and the items whose first event is of a kind that counts; return how many."""
    count = 0
    if anchor >= 0:
        found[0], count = anchor, 1
    for place in range(len(items)):
        if count == len(found):
            break
        is_first = items[place] != anchor and not _holds(items[:place], items[place])
        if is_first and counting[kinds[place]]:
            found[count] = items[place]
            count += 1
    return count
