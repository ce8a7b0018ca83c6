"""Compiled loops of a search: the largest of many scores, the best of what was proposed, and what may be listed.

Arrays are (q,) over questions, with m places each; an item -1 is none, and its score minus infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.compiling import compiled, compiled_for
from server.serving.kernels import falling

Array = npt.NDArray[Any]

_LEAST = 16
"""Scores of a block at least."""
_BLOCKS = 4
"""Blocks for each score that is wanted: few maxima to look through, and few scores beyond those wanted."""


@compiled
def _maxima(scores: Array, blocks: int) -> Array:
    """Return the largest score of each block; block b is each `blocks`-th score from the b-th on."""
    maxima = scores[:blocks].copy()
    for start in range(blocks, len(scores) - blocks + 1, blocks):
        row = scores[start : start + blocks]
        for block in range(blocks):
            maxima[block] = row[block] if row[block] > maxima[block] else maxima[block]
    for place in range(len(scores) // blocks * blocks, len(scores)):
        maxima[place % blocks] = max(maxima[place % blocks], scores[place])
    return maxima


@compiled
def _reaching(scores: Array, wanted: int) -> Array:
    """Return the places of the `wanted` largest scores, of all that are equal to the last of them, and of few others.

    The m-th largest of the blocks' maxima is at most the m-th largest score: so much less is left to sort.
    """
    blocks = min(len(scores) // _LEAST, _BLOCKS * wanted)
    if blocks <= wanted:
        return np.arange(len(scores))
    maxima = _maxima(scores, blocks)
    cut = np.partition(maxima, blocks - wanted)[blocks - wanted]
    places = np.empty(len(scores), dtype=np.int64)
    count = 0
    for block in range(blocks):
        if maxima[block] >= cut:
            for place in range(block, len(scores), blocks):
                places[count] = place
                count += scores[place] >= cut
    return places[:count]


@compiled
def _largest(scores: Array, places: Array, best: Array) -> None:
    """Write the places of the largest scores, as many as are wanted, and these; of equal ones the first first."""
    reaching = _reaching(scores, len(places))
    values = scores[reaching]
    order = falling(values)
    for end in range(1, len(order)):
        place, at = order[end], end
        while at and values[order[at - 1]] == values[place] and reaching[order[at - 1]] > reaching[place]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = place
    for place in range(len(places)):
        places[place], best[place] = reaching[order[place]], values[order[place]]


@compiled_for("void(float32[:, ::1], int64[::1], int64[:, ::1], float32[:, ::1])")
def largest_of_each(scores: Array, barred: Array, items: Array, best: Array) -> None:
    """Write the items (q, m) with the largest of the scores (q, n), and these; scores of `barred` items are lost."""
    for row in range(len(scores)):
        for item in barred:
            scores[row, item] = -np.inf
        _largest(scores[row], items[row], best[row])
        for place in range(items.shape[1]):
            if best[row, place] == -np.inf:
                items[row, place] = -1


@compiled
def _dot(left: Array, right: Array) -> np.float32:
    total = np.float32(0.0)
    for column in range(len(left)):
        total += left[column] * right[column]
    return total


@compiled
def _scored(vectors: Array, query: Array, items: Array) -> Array:
    """Return the products of the items' vectors with one question."""
    scores = np.empty(len(items), dtype=np.float32)
    for place in range(len(items)):
        scores[place] = _dot(vectors[items[place]], query)
    return scores


@compiled_for(
    "void(Array(float32, 2, 'C', True), Array(float32, 2, 'C', True), Array(int64, 2, 'C', True), "
    "Array(boolean, 1, 'C', True), Array(int64, 1, 'C', True), int64[:, ::1], float32[:, ::1])"
)
def best_of_proposed(
    vectors: Array, queries: Array, proposed: Array, counts: Array, always: Array, items: Array, best: Array
) -> None:
    """Write the items (q, m) with the largest products, and these, of those proposed (q, c) and those of `always`.

    Of those proposed count the ones that `counts` (n,) is true of, and it is true of none of `always`. A row with too
    few items ends in no item.
    """
    for row in range(len(queries)):
        known = np.empty(proposed.shape[1] + len(always), dtype=np.int64)
        known[: len(always)] = always
        size = len(always)
        for item in proposed[row]:
            if item >= 0 and counts[item]:
                known[size] = item
                size += 1
        found = min(size, items.shape[1])
        items[row, found:], best[row, found:] = -1, -np.inf
        _largest(_scored(vectors, queries[row], known[:size]), items[row, :found], best[row, :found])
        for place in range(found):
            items[row, place] = known[items[row, place]]


@compiled
def _is_among(item: int, sorted_items: Array) -> bool:
    low, high = 0, len(sorted_items)
    while low < high:
        middle = (low + high) // 2
        if sorted_items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < len(sorted_items) and sorted_items[low] == item


@compiled_for(
    "void(int64[:, ::1], float32[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "Array(int64, 1, 'C', True), int64[::1])"
)
def keep(
    items: Array,
    scores: Array,
    depths: Array,
    barred: Array,
    begins: Array,
    ends: Array,
    moments: Array,
    listed_at: Array,
    kept: Array,
) -> None:
    """Move the items that may be listed to the beginning of their row, of its first `depths`, and write how many.

    `barred` holds the sorted items that a question bars from `begins` to `ends`. Nor is an item kept that is listed
    after `moments`; -1: all are listed.
    """
    for row in range(len(items)):
        mine = barred[begins[row] : ends[row]]
        count = 0
        for place in range(depths[row]):
            item = items[row, place]
            listed = item >= 0 and (moments[row] < 0 or listed_at[item] <= moments[row])
            if listed and not _is_among(item, mine):
                items[row, count], scores[row, count] = item, scores[row, place]
                count += 1
        kept[row] = count
