"""Segments as the endpoint serves them: taste vectors that stand in for a history nobody told."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.schema import Weights
from model.segments import Segments, find_segments
from server.errors import InvalidRequest, Violation
from server.serving.items import ItemTable
from server.serving.items_strings import Columns, Strings, string_columns

Floats = npt.NDArray[np.float32]


def segment_columns(weights: Weights, vectors: Floats, items: ItemTable) -> Columns:
    """The segments of item vectors (items, dim) as arrays that a prepared folder can hold.

    A centre is kept as the taste of a shopper with one event in the middle of the segment: gain * centre.
    """
    names = items.categories
    categories = [names[code] for code in items.category_codes.tolist()]
    found = find_segments(vectors, categories)
    return {
        "segment_tastes": np.asarray(weights["gain"] * found.centres, dtype=np.float32),
        **string_columns("segment_names", (name.encode() for name in found.names)),
        "segment_sizes": np.array(found.sizes, dtype=np.int64),
        "segment_quality": np.array([found.quality], dtype=np.float32),
    }


def segments_of(columns: Columns) -> Segments:
    """The segments that `segment_columns` made; `centres` are tastes."""
    return Segments(
        centres=np.asarray(columns["segment_tastes"], dtype=np.float32),
        names=tuple(Strings.of(columns, "segment_names")),
        sizes=tuple(columns["segment_sizes"].tolist()),
        quality=float(columns["segment_quality"][0]),
    )


def taste_of(segments: Segments, number: int) -> Floats:
    """The taste (dim,) of a segment; raises `InvalidRequest` where there is no such segment."""
    if not 0 <= number < len(segments):
        problem = f"is {number}; this model version has segments 0 to {len(segments) - 1}"
        raise InvalidRequest(Violation(field="context.segment", problem=problem))
    return np.asarray(segments.centres[number])
