"""Compiled loops over the events of a question, where numpy's price of a call is more than the work.

Importing this module takes 0.2 s of processor time, and some seconds where nothing is compiled yet: machine code is
kept beside the sources, or in the home folder. Arrays are (e,) over events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.compiling import compiled, compiled_for
from model.features import KINDS

Array = npt.NDArray[Any]

_KINDS = len(KINDS)


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


@compiled_for("int64(int32[::1], int64[::1], int64[::1], int64, int64[:, ::1])")
def newest_first(rows: Array, kinds: Array, times: Array, now: int, past: Array) -> int:
    """Write items, kinds and times of known items (3, e) newest first, and return how many there are.

    `rows` (e,) is negative where an item is unknown. An event without a time (-1), or dated after `now`, counts as
    now; of equal times the later told is the newer.
    """
    count, ordered = 0, True
    for told in range(len(rows) - 1, -1, -1):
        if rows[told] >= 0:
            time = times[told] if 0 <= times[told] <= now else now
            past[0, count], past[1, count], past[2, count] = rows[told], kinds[told], time
            ordered = ordered and (count == 0 or time <= past[2, count - 1])
            count += 1
    if not ordered:
        order = falling(past[2, :count])
        for column in range(3):
            past[column, :count] = past[column, :count].copy()[order]
    return count


@compiled_for("int64(int64[::1], int64[::1], int64[::1])")
def first_of_each(items: Array, kinds: Array, first: Array) -> int:
    """Write the places of the first event of each item and kind, as many as `first` holds; return how many."""
    keys = np.empty(len(first), dtype=np.int64)
    count = 0
    for place in range(len(items)):
        key = items[place] * _KINDS + kinds[place]
        known = False
        for other in range(count):
            known |= keys[other] == key
        if not known:
            if count == len(first):
                break
            keys[count], first[count] = key, place
            count += 1
    return count


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
