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
from server.serving.kernels_reasons import taste_lost, together_lost
from server.serving.scoring import Parts
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Reading, UserTower

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

_AGES = AGE_BUCKETS + 1
_CODES = len(KINDS) * POSITION_BUCKETS * _AGES + 1
_BUCKET = log_bucket(np.arange(HISTORY_LIMIT + 1), POSITION_BUCKETS)


@dataclass(frozen=True, kw_only=True)
class Drops:
    """Score lost by each item without each cause, (causes, items) each.

    `taste` is lost by history and session, `together` by what goes with the cause.
    """

    taste: Doubles
    together: Doubles


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What an event of each code counts before rarity and attention (codes,), and the gain of the tower (dim,)."""

    counts: Floats
    gain: Floats


def drops(snapshot: Snapshot, parts: Parts, causes: Ints, items: Ints) -> Drops:
    """Leave each of `causes` (c,), items of the events, out of the question, for each of `items` (k,).

    Ages, freshness, words and the moment stay as they are.
    """
    dim, weights, reading = snapshot.dim, parts.weights.tolist(), parts.reading
    tables = tables_of(snapshot)
    rows = snapshot.index.vectors.take(items, axis=0)
    taste, together = np.empty((2, len(causes), len(items)))
    told = reading.vectors, rows, parts.items
    taste_lost(
        *told, reading.codes, parts.counts, weights[0], weights[1], causes, tables.gain, tables.counts, taste
    )
    if snapshot.tower.attends:
        _attend(snapshot, parts, causes[:, None] == parts.items, rows, taste)
    if weights[2] and dim < rows.shape[1] - 1:
        together_lost(*told, reading.anchors, weights[2], dim, causes, together)
    else:
        together[:] = 0.0
    return Drops(taste=taste, together=together)


def _attend(snapshot: Snapshot, parts: Parts, removed: Bools, rows: Floats, taste: Doubles) -> None:
    """Overwrite the causes that hold an event from which attention looks: the tower reads the rest anew."""
    reading = parts.reading
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


_known: WeakKeyDictionary[UserTower, Tables] = WeakKeyDictionary()


def tables_of(snapshot: Snapshot) -> Tables:
    """Ask a tower for its tables, once: what it makes of an event of every code, and of an item of ones."""
    tower, columns, dim = snapshot.tower, snapshot.index.vectors.shape[1], snapshot.dim
    known = _known.get(tower)
    if known is None:
        zeros, ones = np.zeros((2, _CODES, columns), dtype=np.float32)
        ones[0, :dim] = 1.0
        codes = np.zeros((2, 2, _CODES), dtype=np.int64)
        codes[0, 0], codes[1, 0, 0] = np.arange(_CODES), 1
        fused = tower.read([_probe(zeros, codes[0]), _probe(ones, codes[1])])
        gain = fused.pooled[1, 0, :dim] / np.sqrt(fused.counts[1, 0, 0])
        known = _known[tower] = Tables(counts=fused.counts[0, 0].copy(), gain=gain)
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
