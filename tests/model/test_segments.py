"""Segments are groups of items that lie together, found in public vectors, and named."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.segments import ITEMS_PER_SEGMENT, SEGMENTS, find_segments

DIM = 8


def clustered(groups: int, each: int, noise: float = 0.05) -> tuple[NDArray[np.float32], list[str]]:
    """Groups of items around well separated directions, each group with a category of its own."""
    random = np.random.default_rng(3)
    middles = np.eye(DIM)[:groups]
    vectors = np.repeat(middles, each, axis=0) + random.normal(0, noise, (groups * each, DIM))
    return vectors.astype(np.float32), [f"shelf {row // each}" for row in range(groups * each)]


def test_groups_that_lie_apart_become_segments_named_by_their_category() -> None:
    """Five directions with their own categories: each category names a segment near its direction, quality near 1."""
    vectors, categories = clustered(5, ITEMS_PER_SEGMENT)
    found = find_segments(vectors, categories)
    assert len(found) == 5
    assert sorted(found.names) == [f"shelf {number}" for number in range(5)]
    assert found.quality > 0.8
    for name, centre in zip(found.names, found.centres, strict=True):
        assert int(centre.argmax()) == int(name.removeprefix("shelf "))


def test_vectors_without_groups_have_a_low_quality() -> None:
    """The score tells whether naming a segment says anything."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(2000, 32)).astype(np.float32)
    assert find_segments(vectors, [""] * 2000).quality < 0.2


def test_two_segments_of_one_category_are_told_apart_by_a_number() -> None:
    """A name is not given twice; items without category are called other items."""
    vectors, _ = clustered(2, ITEMS_PER_SEGMENT)
    assert set(find_segments(vectors, ["tea"] * len(vectors)).names) == {"tea", "tea (2)"}
    assert set(find_segments(vectors, [""] * len(vectors)).names) == {"other items", "other items (2)"}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_any_catalogue_has_segments_and_the_same_ones_again(seed: int, items: int) -> None:
    """At least one, at most the bound, finite, and equal when found again; zero vectors belong nowhere."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(items, DIM)).astype(np.float32)
    vectors[random.random(items) < 0.3] = 0.0
    categories = random.choice(["", "a", "b"], items).tolist()
    first, again = find_segments(vectors, categories), find_segments(vectors, categories)
    assert 1 <= len(first) == len(first.centres) <= SEGMENTS
    assert np.isfinite(first.centres).all() and -1 <= first.quality <= 1
    assert first.names == again.names and len(set(first.names)) == len(first)
    np.testing.assert_array_equal(first.centres, again.centres)
