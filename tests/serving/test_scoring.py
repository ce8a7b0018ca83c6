"""The parts of a score add up to it: what reasons take apart is what the order was made from."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from ranking_world import parts_of, queries

from server.serving.engine import Engine
from server.serving.query import RankQuery, Surface


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries)
def test_the_query_vector_is_the_sum_of_its_parts(engine: Engine, query: RankQuery) -> None:
    """Readings, base, words and prior, each by the weight of the surface; counts and events belong together."""
    snapshot = engine.snapshot
    parts = parts_of(snapshot, query)
    affinity, session, complement, prior, text, _ = parts.weights
    expected = affinity * parts.pooled[0] + session * parts.pooled[1] + complement * parts.pooled[2]
    expected[: snapshot.dim] += affinity * parts.base
    if parts.reading.text is not None:
        expected[: snapshot.dim] += text * parts.reading.text
    expected[-1] += prior
    np.testing.assert_allclose(parts.query, expected, rtol=1e-4, atol=1e-4)
    assert (
        len(parts.items) == len(parts.reading.vectors) == parts.counts.shape[1] == len(parts.reading.anchors)
    )
    np.testing.assert_array_equal(parts.reading.vectors, snapshot.index.vectors[parts.items])
    assert (parts.counts[parts.reading.codes == 0] == 0).all()
    assert (parts.counts[parts.reading.codes > 0] > 0).all()
    assert (parts.matches is not None) == (query.surface is Surface.SEARCH)
