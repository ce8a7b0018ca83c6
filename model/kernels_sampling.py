"""Compiled loops that draw examples: the moment, what came before it, its targets, and negatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.compiling import compiled
from model.factors import Doubles, Items, Offsets
from model.features import KINDS

Flags = NDArray[np.bool_]
NOBODY = -1


@compiled
def choose_moments(
    first: int, last: int, indptr: Offsets, times: Offsets, positive: Flags, draws: Doubles, chosen: Offsets
) -> None:
    """Write the time of one distinct positive moment of each shopper, each equally likely; -1 without any.

    The moments of a shopper are numbered from the oldest; draw x takes number floor(x * moments).
    """
    for s in range(first, last):
        chosen[s] = -1
        moments = _moment_number(indptr[s], indptr[s + 1], times, positive, -1)[0]
        if moments > 0:
            wanted = min(int(draws[s] * moments), moments - 1)
            chosen[s] = times[_moment_number(indptr[s], indptr[s + 1], times, positive, wanted)[1]]


@compiled
def _moment_number(begin: int, end: int, times: Offsets, positive: Flags, wanted: int) -> tuple[int, int]:
    """Return how many distinct positive moments were passed, and the first event of the wanted one."""
    passed, before = 0, -1
    for h in range(begin, end):
        if positive[h] and (before < 0 or times[h] != times[before]):
            if passed == wanted:
                return passed, h
            passed += 1
            before = h
    return passed, -1


@compiled
def split_at_moments(
    first: int,
    last: int,
    indptr: Offsets,
    items: Items,
    kinds: NDArray[np.int8],
    times: Offsets,
    positive: Flags,
    chosen: Offsets,
    limit: int,
    catalogue: int,
    past: Flags,
    targets: Offsets,
) -> None:
    """Mark the events that the tower reads before each shopper's moment, and write the targets at it.

    Read are the newest events of each (item, kind), at most `limit`; targets are newest first, -1 padded.
    """
    seen = np.full(catalogue * len(KINDS), NOBODY, np.int32)
    for s in range(first, last):
        read, found = 0, 0
        targets[s, :] = -1
        for back in range(indptr[s + 1] - indptr[s]):
            h = indptr[s + 1] - 1 - back
            past[h] = False
            key = items[h] * len(KINDS) + kinds[h]
            if times[h] == chosen[s] and positive[h] and found < targets.shape[1]:
                targets[s, found] = items[h]
                found += 1
            if times[h] < chosen[s] and read < limit and seen[key] != s:
                seen[key] = s
                past[h] = True
                read += 1


@compiled
def pick_negatives(
    first: int,
    last: int,
    indptr: Offsets,
    items: Items,
    draws: Doubles,
    cumulative: Doubles,
    guide: Offsets,
    negatives: Offsets,
) -> None:
    """Write the item that each draw hits by inverse CDF; -1 where the shopper has it.

    `guide[k]` is the item that the draw k / len(guide) hits: where the search for a draw just above it begins.
    """
    owner = np.full(len(cumulative), NOBODY, np.int32)
    largest = len(cumulative) - 1
    for s in range(first, last):
        for h in range(indptr[s], indptr[s + 1]):
            owner[items[h]] = s
        for c in range(draws.shape[1]):
            x = draws[s, c] * cumulative[largest]
            item = guide[min(int(draws[s, c] * len(guide)), len(guide) - 1)]
            while item > 0 and cumulative[item - 1] > x:
                item -= 1
            while item < largest and cumulative[item] <= x:
                item += 1
            negatives[s, c] = -1 if owner[item] == s else item
