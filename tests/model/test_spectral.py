"""The spectral start: recovers what is there, drops what noise hides, and lets the tail live on content."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.content import ItemColumns, item_features
from model.features import KINDS
from model.schema import Schema, check
from model.spectral import (
    DAMPING,
    EXACT_HEAD,
    RIDGE,
    SMALLEST_HEAD,
    START_SCALE,
    UNWANTED,
    GramBlock,
    content_table,
    head_size,
    shrunk,
    spectral_vectors,
    start,
    symmetric,
    triangle_side,
)
from model.two_tower import encode_items

Matrix = NDArray[np.float64]


def low_rank(random: np.random.Generator, side: int, strengths: list[float]) -> tuple[Matrix, Matrix]:
    """A Gram matrix with the given eigenvalues, and its orthonormal eigenvectors (side, rank)."""
    basis = np.linalg.qr(random.normal(size=(side, len(strengths))))[0]
    return basis @ np.diag(strengths) @ basis.T, basis


def symmetric_noise(random: np.random.Generator, side: int, std: float) -> Matrix:
    """Noise of `std` off the diagonal and sqrt(2) `std` on it, as a released triangle carries it."""
    drawn = random.normal(size=(side, side))
    return np.asarray((drawn + drawn.T) * std / np.sqrt(2))


def block(gram: Matrix, noise_std: float = 0.0, first: int = 0) -> GramBlock:
    """A block over consecutive items of the catalogue."""
    return GramBlock(items=np.arange(first, first + len(gram)), gram=gram, noise_std=noise_std)


def filtered(basis: Matrix, strengths: list[float], ridge: float = RIDGE) -> Matrix:
    """The operator that the vectors should span: START_SCALE l / (l + ridge) along every direction."""
    kept = [START_SCALE * value / (value + ridge) for value in strengths]
    return np.asarray(basis @ np.diag(kept) @ basis.T)


def test_an_exact_low_rank_gram_comes_back() -> None:
    """vectors @ vectors.T is the filtered operator; items outside the block and spare columns are zero."""
    strengths = [900.0, 70.0, 20.0, 4.0]
    gram, basis = low_rank(np.random.default_rng(1), 30, strengths)
    vectors = spectral_vectors([block(gram, first=5)], 8, 50)
    assert vectors.shape == (50, 8)
    expected = np.zeros((50, 50))
    expected[5:35, 5:35] = filtered(basis, strengths)
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)
    np.testing.assert_allclose(vectors[:, 4:], 0.0, atol=1e-4)


def test_the_strongest_directions_are_kept_when_there_are_too_many() -> None:
    """With fewer columns than directions the weak ones are left out, strongest column first."""
    strengths = [50.0, 400.0, 10.0, 100.0]
    gram, basis = low_rank(np.random.default_rng(2), 20, strengths)
    vectors = spectral_vectors([block(gram)], 2, 20)
    expected = filtered(basis[:, [1, 3]], [400.0, 100.0])
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
    lengths = (vectors**2).sum(axis=0)
    np.testing.assert_allclose(lengths, [START_SCALE * v / (v + RIDGE) for v in (400.0, 100.0)])


@pytest.mark.parametrize("dim", [3, 6, 12])
def test_blocks_that_share_nothing_equal_one_big_block(dim: int) -> None:
    """Merchants' own Gram matrices give the vectors of the block-diagonal matrix of all of them."""
    random = np.random.default_rng(3)
    grams = [
        low_rank(random, side, values)[0] for side, values in ((8, [90.0, 7.0]), (5, [300.0, 30.0, 2.0]))
    ]
    whole = np.zeros((13, 13))
    whole[:8, :8], whole[8:, 8:] = grams
    apart = spectral_vectors([block(grams[0]), block(grams[1], first=8)], dim, 13)
    together = spectral_vectors([block(whole)], dim, 13)
    np.testing.assert_allclose(apart @ apart.T, together @ together.T, atol=1e-5)
    np.testing.assert_allclose(np.abs(apart[:, :3]), np.abs(together[:, :3]), atol=1e-5)


def test_the_sign_of_an_eigenvector_is_fixed() -> None:
    """The largest entry of every column is positive, so that two machines start from the same model."""
    for seed in range(20):
        gram, _ = low_rank(np.random.default_rng(seed), 12, [80.0, 60.0, 40.0])
        vectors = spectral_vectors([block(gram)], 3, 12)
        assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(3)] > 0).all()


def test_a_merchant_without_head_items_takes_no_column() -> None:
    """An empty block beside a real one changes nothing."""
    gram, _ = low_rank(np.random.default_rng(4), 6, [80.0, 60.0])
    alone = spectral_vectors([block(gram)], 4, 9)
    beside = spectral_vectors([block(np.zeros((0, 0)), 1.0), block(gram)], 4, 9)
    np.testing.assert_array_equal(alone, beside)


def directions_of_pure_noise(believed_std: float) -> list[int]:
    """How many directions survive in 40 matrices of pure noise of std 3, if it is believed to be this strong."""
    survived = []
    for seed in range(40):
        noise = symmetric_noise(np.random.default_rng(seed), 120, 3.0)
        vectors = spectral_vectors([block(noise, believed_std)], 16, 120)
        survived.append(int((np.abs(vectors).sum(axis=0) > 0).sum()))
    return survived


def test_pure_noise_gives_no_vectors() -> None:
    """Noise alone leaves nothing above its edge, but for the one matrix in six that the Tracy-Widom law allows.

    Noise that is believed a tenth weaker than it is leaves something in nearly every matrix, so the edge is sharp.
    """
    survived = directions_of_pure_noise(3.0)
    assert np.mean(survived) < 0.3 and max(survived) <= 2
    assert sum(directions_of_pure_noise(3.3)) == 0
    assert np.mean(directions_of_pure_noise(2.7)) > 2
    assert directions_of_pure_noise(0.0) == [16] * 40


def test_shrinkage_beats_no_shrinkage() -> None:
    """Under noise the shrunk vectors are nearer to the truth, in every one of ten seeds."""
    strengths = [400.0, 200.0, 120.0]
    for seed in range(10):
        random = np.random.default_rng(seed)
        gram, basis = low_rank(random, 150, strengths)
        noisy, truth = gram + symmetric_noise(random, 150, 3.0), filtered(basis, strengths)
        errors = []
        for believed in (3.0, 0.0):
            vectors = spectral_vectors([block(noisy, believed)], 16, 150)
            errors.append(np.linalg.norm(vectors @ vectors.T - truth))
        assert errors[0] < 0.5 * errors[1]


def test_shrinkage_undoes_what_noise_adds_to_an_eigenvalue() -> None:
    """A spike theta appears at theta + scale^2 / theta (spiked Wigner model); shrunk maps it back."""
    spikes = np.array([2.0, 3.0, 10.0])
    scale = 1.5
    np.testing.assert_allclose(shrunk(spikes + scale**2 / spikes, scale), spikes)
    assert shrunk(np.array([2.99, 3.01, -9.0]), scale).tolist()[::2] == [0.0, 0.0]
    assert shrunk(np.array([3.01]), scale)[0] > 0
    np.testing.assert_array_equal(shrunk(spikes, 0.0), spikes)


def test_a_noisy_spike_is_seen_near_its_true_strength() -> None:
    """The mean over seeds of the cleaned eigenvalue lies within 3 % of the truth; the raw one lies above it."""
    cleaned, raw = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        gram, _ = low_rank(random, 200, [100.0])
        noisy = gram + symmetric_noise(random, 200, 3.0)
        (kept,) = (spectral_vectors([block(noisy, 3.0)], 1, 200, ridge=100.0) ** 2).sum(axis=0)
        cleaned.append(100.0 * kept / (START_SCALE - kept))
        raw.append(np.linalg.eigvalsh(noisy)[-1])
    assert np.mean(cleaned) == pytest.approx(100.0, rel=0.03)
    assert np.mean(raw) > 110.0


@given(st.integers(0, 60))
def test_a_triangle_unfolds_to_its_symmetric_matrix(side: int) -> None:
    """The upper triangle in row order gives back the matrix that it was taken from."""
    upper = np.arange(side * (side + 1) // 2, dtype=np.float64)
    assert triangle_side(len(upper)) == side
    full = symmetric(upper)
    assert full.shape == (side, side)
    np.testing.assert_array_equal(full, full.T)
    np.testing.assert_array_equal(full[np.triu_indices(side)], upper)


@given(st.floats(1e-3, 100.0), st.integers(1, 10**7), st.integers(1, 10**5))
def test_the_head_stays_within_its_bounds(mu: float, shoppers: int, items: int) -> None:
    """Between the smallest head and the catalogue or EXACT_HEAD; more budget or shoppers never shrink it."""
    size = head_size(mu, shoppers, items)
    assert min(items, SMALLEST_HEAD) <= size <= min(items, EXACT_HEAD)
    assert size <= head_size(2 * mu, shoppers, items)
    assert size <= head_size(mu, 4 * shoppers, items)
    assert head_size(np.inf, shoppers, items) == min(items, EXACT_HEAD)


def test_the_head_of_a_known_federation() -> None:
    """150 mu sqrt(shoppers / 1000): 4,000 shoppers at mu 1 see 300 items."""
    assert head_size(1.0, 4000, 10**5) == 300
    assert head_size(0.5, 4000, 10**5) == 150
    assert head_size(1.0, 4000, 120) == 120


def test_the_content_table_solves_its_ridge_regression() -> None:
    """Equal to least squares with sqrt(ridge) I rows appended, and exact where the ridge vanishes."""
    random = np.random.default_rng(5)
    features = sp.csr_matrix(random.normal(size=(40, 6)) * (random.random((40, 6)) < 0.5))
    vectors = random.normal(size=(40, 3))
    stacked = np.vstack([features.toarray(), np.sqrt(7.0) * np.eye(6)])
    expected = np.linalg.lstsq(stacked, np.vstack([vectors, np.zeros((6, 3))]), rcond=None)[0]
    np.testing.assert_allclose(content_table(features, vectors, ridge=7.0), expected, atol=1e-10)
    table = random.normal(size=(6, 3))
    exact = np.asarray(features @ table, dtype=np.float64)
    np.testing.assert_allclose(content_table(features, exact, ridge=1e-9), table, atol=1e-6)


def catalogue(brands: list[str]) -> sp.csr_matrix:
    """Features of items that are known by their brand alone."""
    nothing: list[None] = [None] * len(brands)
    return item_features(
        ItemColumns(titles=nothing, categories=nothing, brands=brands, prices=nothing, descriptions=nothing)
    )


def test_tail_items_look_like_the_head_items_that_share_their_content() -> None:
    """A tail item of a brand gets that brand's direction; one of an unknown brand gets nothing."""
    features = catalogue(["acme"] * 30 + ["zenith"] * 30 + ["acme", "zenith", "unknown"])
    vectors = np.zeros((63, 2))
    vectors[:30, 0] = vectors[30:60, 1] = 5.0
    head = np.arange(60)
    tail = (features @ content_table(sp.csr_matrix(features[head]), vectors[head]))[60:]
    assert tail[0, 0] > 2.5 and tail[1, 1] > 2.5
    np.testing.assert_allclose([tail[0, 1], tail[1, 0]], 0.0, atol=1e-9)
    np.testing.assert_allclose(tail[2], 0.0, atol=1e-9)


def test_the_start_is_a_whole_model_that_keeps_the_head_vectors() -> None:
    """Head items keep their (damped) vectors exactly, tail items have no ID embedding, refusals count against."""
    random = np.random.default_rng(6)
    features = catalogue([f"brand {number % 4}" for number in range(20)])
    schema = Schema(items=20, content_features=features.shape[1], dim=3)
    head = np.array([1, 4, 7, 8, 12])
    vectors = np.zeros((20, 3))
    vectors[head] = random.normal(size=(5, 3))
    bias = random.normal(size=20)
    weights = start(schema, features, head, vectors, bias)
    check(weights, schema)
    damped = vectors[head] * np.exp(-DAMPING * (bias[head] - bias[head].mean()))[:, None]
    np.testing.assert_allclose(encode_items(weights, features)[head], damped, atol=1e-5)
    tail = np.setdiff1d(np.arange(20), head)
    assert not weights["item_id"][tail].any()
    np.testing.assert_allclose(weights["item_bias"], bias, rtol=1e-6)
    refused = [KINDS.index("dismiss"), KINDS.index("return")]
    assert (weights["kind_weight"][refused] == UNWANTED).all()
    assert not np.delete(weights["kind_weight"], refused).any()
    assert weights["prior_scale"][0] > 0 and (weights["gain"] == 1.0).all()
