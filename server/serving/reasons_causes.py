"""What an item would lose if something that the shopper did had not been told: leave one out, in closed form.

Every reading of the events is sum a_h d_h / sqrt(sum a_h), where d_h is the inner product of event h and the item,
and a_h depends on the event's kind, age and position (`model.two_tower`). Without an item's events their terms leave
both sums, and older events move up: their position bucket, and so a_h, may change. All of it is known without another
call of the tower, except where attention looks from an event that would be gone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from model.features import AGE_BUCKETS, HISTORY_LIMIT, KINDS, POSITION_BUCKETS, log_bucket
from model.onnx_tower import ABSENT
from server.serving.scoring import Parts
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Reading, UserTower

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_AGES = AGE_BUCKETS + 1
_CODES = len(KINDS) * POSITION_BUCKETS * _AGES + 1
_BUCKET = log_bucket(np.arange(HISTORY_LIMIT + 1), POSITION_BUCKETS)
_FIRST = np.flatnonzero(np.diff(_BUCKET)) + 1
"""Places that are the first of their bucket, but for the newest: there an event moves when a newer one is gone."""
_TINY = np.float32(1e-30)
_NOTHING = -1
"""An item that no event has."""


@dataclass(frozen=True, kw_only=True)
class Drops:
    """Score lost by each item without each cause, (causes, items) each.

    `taste` is lost by history and session, `together` by what goes with the cause.
    """

    taste: Floats
    together: Floats


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """What an event of each code counts before rarity and attention (codes,), and the gain of the tower (dim,)."""

    counts: Floats
    gain: Floats


def drops(snapshot: Snapshot, reading: Reading, parts: Parts, causes: Ints, items: Ints) -> Drops:
    """Leave each of `causes` (c,), items of the events, out of the question, for each of `items` (k,).

    Ages, freshness, words and the moment stay as they are.
    """
    tables = _tables_of(snapshot.tower, parts.vectors.shape[1], snapshot.dim)
    rows = snapshot.index.vectors[items]
    dim = snapshot.dim
    removed = np.append(causes, _NOTHING)[:, None] == parts.items
    dots = parts.vectors[:, :dim] @ (tables.gain * rows[:, :dim]).T
    taste = np.zeros((len(causes), len(items)), dtype=np.float32)
    for which, codes in enumerate(reading.codes):
        if parts.weights[which] and codes.any():
            taste += parts.weights[which] * _lost(codes, parts.counts[which], removed, dots, tables.counts)
    if snapshot.tower.attends:
        _attend(snapshot, reading, parts, removed[:-1], rows, taste)
    together = np.zeros_like(taste)
    if parts.weights[2] and dim < rows.shape[1] - 1 and parts.anchors.any():
        fits = parts.vectors[:, dim:-1] @ rows[:, dim:-1].T
        together += parts.weights[2] * _lost_together(parts.anchors, removed[:-1], fits)
    return Drops(taste=taste, together=together)


def _lost(codes: Ints, counts: Floats, removed: Bools, dots: Floats, table: Floats) -> Floats:
    """(c, k) what one reading loses without each cause; `dots` (e, k).

    `removed` (c + 1, e) has one row more than there are causes, in which nothing is removed.
    """
    present = np.flatnonzero(codes)
    if len(present) < len(codes):
        codes, counts, removed, dots = codes[present], counts[present], removed[:, present], dots[present]
    left = np.where(removed, np.float32(0.0), counts)
    events = np.count_nonzero(removed, axis=1)
    place = np.where(events, removed.argmax(axis=1), len(codes))
    first = _FIRST[: _BUCKET[len(codes) - 1]]
    moved = counts[first] * (table[codes[first] - _AGES] / table[codes[first]])
    left[:, first] = np.where(place[:, None] < first, moved, left[:, first])
    if events.max() > 1:
        several = np.flatnonzero(events > 1)
        left[several] = _counts_without(codes, counts, removed[several], table)
    totals = left @ np.ones(len(codes), dtype=np.float32)
    pooled = left @ dots / np.sqrt(np.maximum(totals, _TINY))[:, None]
    return np.asarray(pooled[-1] - pooled[:-1])


def _counts_without(codes: Ints, counts: Floats, removed: Bools, table: Floats) -> Floats:
    """(c, e) what events count without several of them: every older one may move up by more than one place."""
    moved = _moved(codes, removed)
    changed = np.nonzero(moved != codes)
    left = np.repeat(counts[None], len(removed), axis=0)
    left[changed] *= table[moved[changed]] / table[codes[changed[1]]]
    return left


def _lost_together(anchors: Floats, removed: Bools, fits: Floats) -> Floats:
    """(c, k) what the complement part loses: a sum over anchors / sqrt(their number), both without the cause."""
    weighed = anchors > 0
    number = int(weighed.sum())
    left = np.maximum(number - (removed & weighed).sum(axis=1), 1)
    rest = np.where(removed, np.float32(0.0), anchors) @ fits
    return np.asarray(anchors @ fits - rest * np.sqrt(number / left)[:, None].astype(np.float32))


def _attend(
    snapshot: Snapshot, reading: Reading, parts: Parts, removed: Bools, rows: Floats, taste: Floats
) -> None:
    """Overwrite the causes that hold an event from which attention looks: the tower reads the rest anew."""
    looking = [which for which in (0, 1) if reading.codes[which].any()]
    again = np.flatnonzero(removed[:, [reading.newest[which] for which in looking]].any(axis=1))
    if not len(again):
        return
    fused = snapshot.tower.read([_without(reading, removed[row]) for row in again])
    before = parts.weights[:2] @ parts.pooled[:2]
    after = np.einsum("r,brd->bd", parts.weights[:2], fused.pooled[:, :2])
    taste[again] = (before - after) @ rows.T


def _without(reading: Reading, removed: Bools) -> Reading:
    """The same question without the events where `removed` (e,) holds: older events move up."""
    codes = np.stack([_moved(of_reading, removed[None])[0] for of_reading in reading.codes])
    newest = tuple((codes != ABSENT).argmax(axis=1).tolist())
    return replace(reading, codes=codes, newest=newest)


def _moved(codes: Ints, removed: Bools) -> Ints:
    """(c, e) the codes of one reading without each cause; `removed` (c, e)."""
    present = codes != ABSENT
    gone = removed & present
    places = np.cumsum(present) - 1
    steps = _BUCKET[places] - _BUCKET[places - np.cumsum(gone, axis=1)]
    return np.where(gone | ~present, ABSENT, codes - _AGES * steps)


_known: WeakKeyDictionary[UserTower, _Tables] = WeakKeyDictionary()


def _tables_of(tower: UserTower, columns: int, dim: int) -> _Tables:
    """Ask a tower for its tables, once: what it makes of an event of every code, and of an item of ones."""
    known = _known.get(tower)
    if known is None:
        zeros, ones = np.zeros((2, _CODES, columns), dtype=np.float32)
        ones[0, :dim] = 1.0
        codes = np.zeros((2, 2, _CODES), dtype=np.int64)
        codes[0, 0], codes[1, 0, 0] = np.arange(_CODES), 1
        fused = tower.read([_probe(zeros, codes[0]), _probe(ones, codes[1])])
        gain = fused.pooled[1, 0, :dim] / np.sqrt(fused.counts[1, 0, 0])
        known = _known[tower] = _Tables(counts=fused.counts[0, 0], gain=gain)
    return known


def _probe(vectors: Floats, codes: Ints) -> Reading:
    return Reading(
        vectors=vectors,
        codes=codes,
        anchors=np.zeros(len(vectors), dtype=np.float32),
        context=(-1, -1, -1, -1),
        surface=0,
        given=None,
        text=None,
        newest=(0, 0),
    )
