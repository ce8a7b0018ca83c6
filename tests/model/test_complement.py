"""Complement vectors: planted pairs are found, chance is not, and noise takes away what it hides."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from model.complement import basket_axes, complement_vectors
from model.schema import COMPLEMENT_LIMIT

Array = NDArray[np.float64]
ITEMS, KINDS = 60, 10


def world() -> tuple[NDArray[np.float32], sp.csr_matrix, Array]:
    """Item vectors and features that both say which of ten kinds an item is, and a skewed popularity."""
    random = np.random.default_rng(1)
    kind = np.eye(KINDS)[np.arange(ITEMS) % KINDS]
    vectors = kind @ random.normal(size=(KINDS, KINDS)) + 0.01 * random.normal(size=(ITEMS, KINDS))
    popularity = random.dirichlet(np.full(ITEMS, 2.0))
    return vectors.astype(np.float32), sp.csr_matrix(kind), popularity


def baskets(count: int, popularity: Array, *, paired: float) -> Array:
    """Ones (count, ITEMS): two items; with chance `paired` the second is of the kind that goes with the first."""
    random = np.random.default_rng(2)
    taken = np.zeros((count, ITEMS))
    for row in taken:
        first = random.choice(ITEMS, p=popularity)
        mates = np.arange(ITEMS) % KINDS == (first % KINDS) ^ 1
        chances = popularity * (mates if random.random() < paired else 1.0)
        row[first] = row[random.choice(ITEMS, p=chances / chances.sum())] = 1.0
    return taken


def moment_of(taken: Array, axes: NDArray[np.float32]) -> Array:
    """The second moment of the baskets without its diagonal, read in the axes."""
    together = taken.T @ taken
    np.fill_diagonal(together, 0.0)
    return np.asarray(axes.T.astype(float) @ together @ axes.astype(float))


def ranks_of_mates(vectors: NDArray[np.float32]) -> float:
    """Share of (mate, other) pairs in the right order, over all items as anchors."""
    scores = (vectors @ vectors.T).astype(float)
    kinds = np.arange(ITEMS) % KINDS
    mates = kinds[:, None] == (kinds[None, :] ^ 1)
    others = ~mates & (kinds[:, None] != kinds[None, :])
    right = [(scores[i][mates[i]][:, None] > scores[i][others[i]][None, :]).mean() for i in range(ITEMS)]
    return float(np.mean(right))


def test_what_is_bought_together_is_found_though_its_items_are_not_alike() -> None:
    """Kinds 0 and 1, 2 and 3 go together; that of an item is found for items of the tail too."""
    vectors, features, popularity = world()
    axes = basket_axes(vectors, features, popularity)
    found = complement_vectors(axes, moment_of(baskets(2000, popularity, paired=0.5), axes), 0.0)
    assert found.dtype == np.float32 and found.shape[0] == ITEMS
    assert ranks_of_mates(found) > 0.9


def test_noise_blurs_it_and_strong_noise_leaves_nothing() -> None:
    """Above the edge something is left; below it there is no column at all, and no chance direction either."""
    vectors, features, popularity = world()
    axes = basket_axes(vectors, features, popularity)
    moment = moment_of(baskets(2000, popularity, paired=0.5), axes)
    side = len(moment)
    random = np.random.default_rng(3)
    noise = random.normal(size=(side, side))
    noise = (noise + noise.T) / np.sqrt(2.0)
    strength = np.linalg.eigvalsh(moment).max()
    for edge, least, most in ((0.2 * strength, 0.7, 1.0), (5.0 * strength, 0.0, 0.0)):
        std = edge / (2.0 * np.sqrt(side))
        found = complement_vectors(axes, moment + std * noise, std * 1.1)
        assert (ranks_of_mates(found) if found.shape[1] else 0.0) == pytest.approx(
            (least + most) / 2, abs=(most - least) / 2
        )


def test_baskets_by_popularity_alone_have_no_moment() -> None:
    """In centred axes what everybody buys goes with nothing in particular."""
    vectors, features, popularity = world()
    axes = basket_axes(vectors, features, popularity)
    by_chance, paired = (
        np.linalg.eigvalsh(moment_of(baskets(4000, popularity, paired=share), axes)).max()
        for share in (0.0, 0.5)
    )
    assert by_chance < 0.25 * paired


def test_axes_tell_all_items_apart_and_are_never_more_than_the_limit() -> None:
    """Float32, finite, at most 64; without content, or without anything learned, the other half stands alone."""
    vectors, features, popularity = world()
    axes = basket_axes(vectors, features, popularity)
    assert axes.dtype == np.float32 and np.isfinite(axes).all()
    assert KINDS - 1 <= axes.shape[1] <= COMPLEMENT_LIMIT
    wide = np.random.default_rng(0).normal(size=(ITEMS, 100)).astype(np.float32)
    many = sp.csr_matrix(np.random.default_rng(1).normal(size=(ITEMS, 90)))
    assert basket_axes(wide, many, popularity).shape[1] <= COMPLEMENT_LIMIT
    no_content = sp.csr_matrix((ITEMS, 0))
    assert basket_axes(vectors, no_content, popularity).shape[1] >= KINDS - 1
    assert basket_axes(np.zeros_like(vectors), features, popularity).shape[1] >= KINDS - 1
    assert basket_axes(np.zeros_like(vectors), no_content, popularity).shape == (ITEMS, 0)


def test_nothing_released_is_no_vector() -> None:
    """A moment of zeros, of noise alone, and one without axes give no column."""
    vectors, features, popularity = world()
    axes = basket_axes(vectors, features, popularity)
    side = axes.shape[1]
    assert complement_vectors(axes, np.zeros((side, side)), 0.0).shape == (ITEMS, 0)
    assert complement_vectors(axes, np.eye(side), 1.0).shape == (ITEMS, 0)
    assert complement_vectors(np.zeros((ITEMS, 0), np.float32), np.zeros((0, 0)), 1.0).shape == (ITEMS, 0)
