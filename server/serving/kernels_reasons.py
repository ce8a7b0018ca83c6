"""Compiled loops of leave one out; `server.serving.reasons_causes` has the formula and calls them.

Arrays are (e,) over events, newest first, (c,) over causes and (k,) over listed items; rows of vectors are
z = [v | w | p]. Products are in single precision, sums and differences of them in double.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from model.compiling import compiled, compiled_for
from model.features import AGE_BUCKETS, HISTORY_LIMIT, POSITION_BUCKETS, log_bucket
from server.serving.kernels import distinct_items

Array = npt.NDArray[Any]

_AGES = AGE_BUCKETS + 1
_BUCKET = log_bucket(np.arange(HISTORY_LIMIT + 1), POSITION_BUCKETS)
_TINY = 1e-30


@compiled
def _dot(left: Array, right: Array) -> np.float32:
    total = np.float32(0.0)
    for column in range(len(left)):
        total += left[column] * right[column]
    return total


@compiled
def _add(total: Array, factor: float, values: Array) -> None:
    for column in range(len(total)):
        total[column] += factor * values[column]


@compiled
def _add_lost(
    codes: Array,
    counts: Array,
    items: Array,
    causes: Array,
    dots: Array,
    table: Array,
    weight: float,
    lost: Array,
) -> None:
    """Add what one reading loses: its sum over the root of its total, less the same of what is left."""
    present = np.flatnonzero(codes)
    total, pooled = 0.0, np.zeros(dots.shape[1])
    for event in present:
        total += counts[event]
        _add(pooled, counts[event], dots[event])
    whole = 1.0 / sqrt(max(total, _TINY))
    left = np.empty_like(pooled)
    for cause in range(len(causes)):
        left[:] = pooled
        gone, rest = 0, total
        for place in range(len(present)):
            event = present[place]
            change = 0.0
            if items[event] == causes[cause]:
                gone += 1
                change = -float(counts[event])
            elif _BUCKET[place] != _BUCKET[place - gone]:
                younger = codes[event] - _AGES * (_BUCKET[place] - _BUCKET[place - gone])
                change = counts[event] * (float(table[younger]) / float(table[codes[event]]) - 1.0)
            if change != 0.0:
                rest += change
                _add(left, change, dots[event])
        if gone:
            share = 1.0 / sqrt(max(rest, _TINY)) if gone < len(present) else 0.0
            _add(lost[cause], weight * whole, pooled)
            _add(lost[cause], -weight * share, left)


@compiled_for(
    "void(float32[:, ::1], float32[:, ::1], int64[::1], int64[:, :], float32[:, :], float64, float64, "
    "int64[::1], float32[::1], float32[::1], float64[:, ::1])"
)
def taste_lost(
    vectors: Array,
    rows: Array,
    items: Array,
    codes: Array,
    counts: Array,
    history: float,
    session: float,
    causes: Array,
    gain: Array,
    table: Array,
    lost: Array,
) -> None:
    """Write what each listed item loses of history and session without each cause, (c, k).

    `vectors` (e, D), `rows` (k, D), `codes` and `counts` (2, e), the weights of the two readings, `gain` (dim,), and
    `table` (codes,), what an event of each code counts before rarity and attention.
    """
    dots = np.empty((len(vectors), len(rows)), dtype=np.float32)
    scaled = np.empty(len(gain), dtype=np.float32)
    for event in range(len(vectors)):
        for column in range(len(gain)):
            scaled[column] = vectors[event, column] * gain[column]
        for row in range(len(rows)):
            dots[event, row] = _dot(scaled, rows[row])
    lost[:] = 0.0
    for reading in range(2):
        weight = history if reading == 0 else session
        if weight != 0.0:
            _add_lost(codes[reading], counts[reading], items, causes, dots, table, weight, lost)


@compiled_for(
    "void(float32[:, ::1], float32[:, ::1], int64[::1], float32[::1], float64, int64, int64[::1], "
    "float64[:, ::1])"
)
def together_lost(
    vectors: Array,
    rows: Array,
    items: Array,
    anchors: Array,
    weight: float,
    dim: int,
    causes: Array,
    lost: Array,
) -> None:
    """Write what each listed item loses of what goes with the anchors (e,) without each cause, (c, k).

    The part is a sum over anchors / sqrt(their number), both without the cause.
    """
    lost[:] = 0.0
    number, whole, rest = 0, np.zeros(len(rows)), np.zeros(len(rows))
    fits = np.zeros((len(vectors), len(rows)))
    for event in range(len(vectors)):
        if anchors[event] > 0:
            number += 1
            for row in range(len(rows)):
                fits[event, row] = anchors[event] * _dot(vectors[event, dim:-1], rows[row, dim:-1])
            _add(whole, 1.0, fits[event])
    for cause in range(len(causes)):
        gone = 0
        rest[:] = whole
        for event in range(len(vectors)):
            if anchors[event] > 0 and items[event] == causes[cause]:
                gone += 1
                _add(rest, -1.0, fits[event])
        if gone:
            _add(lost[cause], weight, whole)
            _add(lost[cause], -weight * sqrt(number / max(number - gone, 1)), rest)


DONE, SIMILAR, TOGETHER, TOGETHER_IN_CART = 0, 5, 6, 7
"""What a reason says of its cause; from `DONE` on what was done with it, by strength, the strongest first."""
PHRASES = 8


@compiled_for(
    "void(float64[:, ::1], float64[:, ::1], int64[::1], int64[::1], float64, int64[::1], int64[::1], "
    "int64[::1], int64, int64, int64[::1])"
)
def strongest(
    taste: Array,
    together: Array,
    causes: Array,
    listed: Array,
    least: float,
    items: Array,
    kinds: Array,
    strength: Array,
    put_in: int,
    anchor: int,
    named: Array,
) -> None:
    """Write for each listed item (k,) `PHRASES` times the cause without which it loses most, plus what is said of it.

    It is -1 where no more than `least` would be lost; no item is a cause of itself. `strength` (kinds,) says how
    strong a thing each kind of event is to have done, 0 the strongest, and the greatest is to be rejected: what is
    said is the strongest since the cause was last rejected. What goes together is said where it is most of what is
    lost, and the cart where the cause was `put_in`.
    """
    rejected = strength.max()
    for row in range(len(listed)):
        worst, found = least, -1
        for cause in range(len(causes)):
            drop = taste[cause, row] + together[cause, row]
            if drop > worst and causes[cause] != listed[row]:
                worst, found = drop, cause
        named[row] = -1
        if found >= 0:
            done = rejected
            for event in range(len(items)):
                if items[event] == causes[found]:
                    if strength[kinds[event]] == rejected:
                        break
                    done = min(done, strength[kinds[event]])
            of_anchor = causes[found] == anchor
            if 2 * together[found, row] > worst:
                said = TOGETHER_IN_CART if done == put_in and not of_anchor else TOGETHER
            else:
                said = SIMILAR if of_anchor else DONE + done
            named[row] = causes[found] * PHRASES + said


@compiled
def _listed_rows(rows: Array, listed: Array) -> Array:
    """Return the rows of the items that are listed; -1 stands behind them all."""
    own = np.empty((np.count_nonzero(listed >= 0), rows.shape[1]), dtype=np.float32)
    for place in range(len(own)):
        own[place] = rows[listed[place]]
    return own


@compiled
def _lost(
    told: Array, own: Array, asked: tuple[Array, ...], causes: Array, gain: Array, table: Array
) -> tuple[Array, Array]:
    """Return what each listed item loses without each cause: of taste, and of what goes together."""
    items, codes, counts, anchor, weights = asked
    taste, together = np.empty((len(causes), len(own))), np.zeros((len(causes), len(own)))
    taste_lost(told, own, items, codes, counts, weights[0], weights[1], causes, gain, table, taste)
    if weights[2] and len(gain) < own.shape[1] - 1:
        together_lost(told, own, items, anchor, weights[2], len(gain), causes, together)
    return taste, together


@compiled_for(
    "void(Array(float32, 2, 'C', True), int64[:, ::1], float32[:, ::1], int64[:, ::1], int64[:, ::1], "
    "float32[:, :, ::1], int64[:, ::1], int64[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], "
    "float32[:, ::1], int64[::1], float32[::1], float32[::1], boolean[::1], int64[::1], int64, float64, int64, "
    "int64[:, ::1], int64[::1])"
)
def name_each(
    rows: Array,
    listed: Array,
    scores: Array,
    read: Array,
    marks: Array,
    vectors: Array,
    items: Array,
    codes: Array,
    counts: Array,
    anchors: Array,
    weights: Array,
    looked_at: Array,
    gain: Array,
    table: Array,
    positive: Array,
    strength: Array,
    put_in: int,
    least: float,
    most: int,
    named: Array,
    tried: Array,
) -> None:
    """Write the cause of each item `listed` (b, k; -1: none) as `strongest` does, and how many were `tried` (b,).

    `rows` are the index's, `read` and `marks` those of `server.serving.past.Known`, `vectors` to `anchors` the
    tower's input and the counts that it made, `weights` (b, features). At most `most` items are tried, of events of a
    kind that is `positive`; a cause must count more than `least` of the largest score, or of 1.
    """
    begin = 0
    for row in range(len(listed)):
        mine = slice(begin, marks[2, row])
        begin = marks[2, row]
        causes = np.empty(most, dtype=np.int64)
        causes = causes[: distinct_items(read[0, mine], read[1, mine], positive, looked_at[row], causes)]
        tried[row], named[row] = len(causes), -1
        own = _listed_rows(rows, listed[row])
        if len(own) and len(causes):
            told = vectors[row, : mine.stop - mine.start + (looked_at[row] >= 0)]
            asked = (items[row], codes[row], counts[row], anchors[row, 0], weights[row])
            taste, together = _lost(told, own, asked, causes, gain, table)
            shown, found = listed[row, : len(own)], named[row, : len(own)]
            done, kinds = read[0, mine], read[1, mine]
            bar = least * max(1.0, np.abs(scores[row, : len(own)]).max())
            strongest(
                taste, together, causes, shown, bar, done, kinds, strength, put_in, looked_at[row], found
            )
