"""Which events the user tower reads as the history, which as the session, and which items something is to go with.

As `model.fusion` has it: on detail the item looked at is the session, seen just now; on cart the basket is, its items
read as put in, and they are what something is to go with. Elsewhere the session is what was done in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.features import DAY, HOUR, KINDS, SURFACES, Context, moments
from model.onnx_tower import ABSENT, codes_newest_first
from server.serving.kernels_events import CART, DETAIL, HISTORY, write_input
from server.serving.past import Known, Past
from server.serving.query import RankQuery, Surface
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Inputs, rows_or_zeros

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_ADDED = KINDS.index("add_to_cart")
_NUMBER = {surface: SURFACES.index(surface) for surface in Surface}
_MODES = {Surface.DETAIL: DETAIL, Surface.CART: CART}
_UNKNOWN_MOMENT = (-1, -1, -1, -1)


def read_input(
    snapshot: Snapshot,
    queries: Sequence[RankQuery],
    known: Known,
    anchors: Sequence[int | None],
    given: Sequence[Floats | None],
    texts: Sequence[Floats | None],
) -> Inputs:
    """The tower's input but for baskets, see `put_in`.

    `anchors` are the items looked at, on detail; `given` are vectors in place of a history, and that of an embedding
    is a whole user embedding, its moment included; `texts` are the vectors of the words searched for.
    """
    looked_at = np.array([-1 if anchor is None else anchor for anchor in anchors])
    sizes = np.diff(known.marks[2], prepend=0) + (looked_at >= 0)
    inputs = _without_events(snapshot, queries, given, texts, sizes, looked_at)
    modes = np.array([_MODES.get(query.surface, HISTORY) for query in queries])
    nows = np.array([query.timestamp for query in queries])
    arrays = inputs.items, inputs.vectors, inputs.codes, inputs.anchors
    write_input(
        known.read, known.marks, modes, looked_at, nows, snapshot.has_clock, snapshot.index.vectors, *arrays
    )
    inputs.codes[[query.embedding is not None for query in queries], 0] = ABSENT
    inputs.newest[:, 1] = np.where(looked_at < 0, 0, sizes - 1)
    return inputs


def put_in(inputs: Inputs, row: int, read: Past, basket: Bools, now: int | None) -> None:
    """Read the basket of a question as its session, its items as put in, and as what something is to go with.

    `now` is None where no clock is known.
    """
    inside = np.flatnonzero(basket)
    days = None if now is None else (now - read.times[inside]) // DAY
    inputs.codes[row, 1, inside] = codes_newest_first(np.full(len(inside), _ADDED), days)
    inputs.anchors[row, 0, inside] = 1.0 / np.sqrt(max(len(inside), 1))
    inputs.newest[row, 1] = inside[0] if len(inside) else 0


def _without_events(
    snapshot: Snapshot,
    queries: Sequence[RankQuery],
    given: Sequence[Floats | None],
    texts: Sequence[Floats | None],
    sizes: Ints,
    looked_at: Ints,
) -> Inputs:
    """The input of questions, with room for their events."""
    batch, columns, longest = len(queries), snapshot.index.vectors.shape[1], max(1, int(sizes.max()))
    return Inputs(
        sizes=sizes,
        looked_at=looked_at,
        items=np.empty((batch, longest), dtype=np.int64),
        vectors=np.empty((batch, longest, columns), dtype=np.float32),
        codes=np.empty((batch, 2, longest), dtype=np.int64),
        anchors=np.empty((batch, 1, longest), dtype=np.float32),
        context=np.array([_moment(snapshot, query) for query in queries]),
        surface=np.array([_NUMBER[query.surface] for query in queries]),
        given=rows_or_zeros(given, snapshot.dim),
        text=rows_or_zeros(texts, snapshot.dim),
        newest=np.zeros((batch, 2), dtype=np.int64),
    )


def _moment(snapshot: Snapshot, query: RankQuery) -> tuple[int, ...]:
    if query.embedding is not None:
        return _UNKNOWN_MOMENT
    return _rows_of_hour(query.surface, query.timestamp // HOUR if snapshot.has_clock else None)


@lru_cache(maxsize=4096)
def _rows_of_hour(surface: Surface, hour: int | None) -> tuple[int, ...]:
    """Rows of the context table; they are the same for a whole hour."""
    moment = moments([Context(surface=surface.value, timestamp=None if hour is None else hour * HOUR)])
    return tuple(moment.codes[0].tolist())
