"""Segments as served: tastes by number, kept in arrays, refused by name where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from model.schema import Weights
from server.errors import InvalidRequest
from server.serving.engine import Engine
from server.serving.segments import segment_columns, segments_of, taste_of


def test_a_taste_is_that_of_a_shopper_in_the_middle_of_the_segment(engine: Engine, weights: Weights) -> None:
    """Gain times the mean of its items' vectors; equal when read back from arrays, names in any script included."""
    snapshot = engine.snapshot
    vectors = np.asarray(snapshot.index.vectors[:, : snapshot.dim])
    weights = {**weights, "gain": np.full_like(weights["gain"], 2.0)}
    columns = segment_columns(weights, vectors, snapshot.items)
    found = segments_of(columns)
    assert len(found) == len(found.centres) == 3, "60 items make three segments of at least 20"
    assert all(name.startswith("Grocery > shelf") for name in found.names)
    assert -1 <= found.quality <= 1
    np.testing.assert_array_equal(taste_of(found, 1), found.centres[1])
    half = segments_of(
        segment_columns({**weights, "gain": np.ones_like(weights["gain"])}, vectors, snapshot.items)
    )
    np.testing.assert_allclose(found.centres, 2 * half.centres, rtol=1e-5)


def test_an_unknown_segment_is_refused_with_the_bound(engine: Engine) -> None:
    """The message names the field, the value and what there is."""
    segments = engine.snapshot.segments
    with pytest.raises(InvalidRequest) as refusal:
        taste_of(segments, len(segments))
    violation = refusal.value.violations[0]
    assert violation.field == "context.segment"
    assert (
        violation.problem == f"is {len(segments)}; this model version has segments 0 to {len(segments) - 1}"
    )
