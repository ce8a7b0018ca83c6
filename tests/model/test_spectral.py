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
from model.head import DAMPING, Head
from model.schema import Schema, check
from model.spectral import (
    EXACT_HEAD,
    HEAD_FACTOR,
    NOISE_RIDGE,
    RIDGE,
    SMALLEST_HEAD,
    START_SCALE,
    SUBSPACE,
    UNWANTED,
    GramBlock,
    Start,
    content_table,
    head_size,
    leading_basis,
    shrunk,
    spectral_vectors,
    start,
    symmetric,
    triangle_side,
)
from model.two_tower import encode_items

Matrix = NDArray[np.float64]


def low_rank(random: np.random.Generator, side: int, strengths: list[float]) -> tuple[Matrix, Matrix]:
    """A Gram matrix with the given eigenvalues, and its eigenvectors (side, rank), none of which is popular."""
    columns = np.column_stack([np.ones(side), random.normal(size=(side, len(strengths)))])
    basis = np.linalg.qr(columns)[0][:, 1:]
    return basis @ np.diag(strengths) @ basis.T, basis


def symmetric_noise(random: np.random.Generator, side: int, std: float) -> Matrix:
    """Noise of `std` off the diagonal and sqrt(2) `std` on it, as a released triangle carries it."""
    drawn = random.normal(size=(side, side))
    return np.asarray((drawn + drawn.T) * std / np.sqrt(2))


def block(gram: Matrix, noise_std: float = 0.0, first: int = 0) -> GramBlock:
    """A block over consecutive items of the catalogue, all of them equally and hardly popular."""
    head = Head(np.arange(first, first + len(gram)), np.ones(len(gram)))
    return GramBlock(head=head, basis=None, gram=gram, noise_std=noise_std, popular_strength=0.0)


def skewed(random: np.random.Generator, gram: Matrix, basis: NDArray[np.float32] | None = None) -> GramBlock:
    """A block over items of very different popularity; a basis has as many rows as it has items."""
    side = len(gram) if basis is None else len(basis)
    head = Head(np.arange(side), random.gamma(0.5, size=side) * 100 + 0.1)
    return GramBlock(head=head, basis=basis, gram=gram, noise_std=0.0, popular_strength=0.0)


def filtered(basis: Matrix, strengths: list[float]) -> Matrix:
    """The operator that the vectors should span: START_SCALE l / (l + ridge) along every direction."""
    kept = [START_SCALE * value / (value + RIDGE) for value in strengths]
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
    """Under noise the Gram of shrunk eigenvalues is nearer to the truth, in every one of ten seeds."""
    for seed in range(10):
        random = np.random.default_rng(seed)
        gram, _ = low_rank(random, 150, [400.0, 200.0, 120.0])
        noisy = block(gram + symmetric_noise(random, 150, 3.0), 3.0)
        values, directions = noisy.leading(16)
        kept = (shrunk(values, noisy.edge / 2.0), values)
        shrunken, raw = (np.linalg.norm((directions * each) @ directions.T - gram) for each in kept)
        assert shrunken < 0.5 * raw


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
        noisy = block(gram + symmetric_noise(random, 200, 3.0), 3.0)
        (kept,) = (spectral_vectors([noisy], 1, 200) ** 2).sum(axis=0)
        cleaned.append((RIDGE + NOISE_RIDGE * noisy.edge) * kept / (START_SCALE - kept))
        raw.append(noisy.leading(1)[0][0])
    assert np.mean(cleaned) == pytest.approx(100.0, rel=0.03)
    assert np.mean(raw) > 110.0


@given(st.integers(2, 30), st.integers(0, 40), st.integers(0, 2**32))
def test_leading_directions_leave_out_what_is_popular(side: int, count: int, seed: int) -> None:
    """They are orthonormal, perpendicular to q, strongest first, and the eigenvectors of what is left of the Gram.

    However strong the Gram is along q, and whether or not its eigenvalues are positive.
    """
    random = np.random.default_rng(seed)
    drawn = random.normal(size=(side, side))
    one = skewed(random, drawn + drawn.T)
    q = one.head.popular
    loud = GramBlock(
        head=one.head,
        basis=None,
        gram=one.gram + 1e4 * np.outer(q, q),
        noise_std=0.0,
        popular_strength=0.0,
    )
    values, directions = loud.leading(count)
    kept = min(count, side - 1)
    assert directions.shape == (side, kept) and values.shape == (kept,)
    np.testing.assert_allclose(directions.T @ directions, np.eye(kept), atol=1e-7)
    np.testing.assert_allclose(q @ directions, 0.0, atol=1e-7)
    assert (np.diff(values) <= 1e-9).all()
    rest = np.eye(side) - np.outer(q, q)
    left = rest @ one.gram @ rest
    np.testing.assert_allclose(left @ directions, directions * values, atol=1e-5)
    expected = np.sort(np.linalg.eigvalsh(left))[::-1]
    np.testing.assert_allclose(
        values, [*expected[expected > 1e-7], *expected[expected < -1e-7]][:kept], atol=1e-6
    )


def test_directions_inside_a_basis_are_directions_of_the_head() -> None:
    """A Gram of k coordinates leads to (m, count) directions within its basis; it may use up all k."""
    random = np.random.default_rng(7)
    basis = leading_basis(skewed(random, np.diag(random.random(10))))
    gram = np.diag([1.0, 5.0, 3.0, 2.0, 4.0])
    inside = skewed(random, gram, basis)
    values, directions = inside.leading(9)
    np.testing.assert_allclose(values, [5.0, 4.0, 3.0, 2.0, 1.0])
    np.testing.assert_allclose(np.abs(basis.T @ directions), np.eye(5)[:, [1, 4, 2, 3, 0]], atol=1e-6)
    assert inside.edge == 0.0


def test_a_second_release_looks_into_the_stronger_half() -> None:
    """The basis spans the strongest directions of the first Gram, perpendicular to q, as many as SUBSPACE says."""
    strengths = [9.0, 8.0, 7.0, 6.0, 5.0]
    gram, directions = low_rank(np.random.default_rng(8), 10, strengths)
    basis = leading_basis(block(gram))
    assert basis.shape == (10, 5) and SUBSPACE == 0.5
    assert basis.dtype == np.float32
    np.testing.assert_allclose(basis @ basis.T, directions @ directions.T, atol=1e-5)
    assert leading_basis(block(np.ones((1, 1)))).shape == (1, 0)
    assert leading_basis(block(np.zeros((0, 0)))).shape == (0, 0)


def test_the_popular_direction_has_the_strength_that_the_counts_told() -> None:
    """Whatever the Gram says along q: one column along q, as long as its strength without the noise's shrinkage."""
    random = np.random.default_rng(9)
    one = skewed(random, np.zeros((12, 12)))
    told = GramBlock(head=one.head, basis=None, gram=one.gram, noise_std=2.0, popular_strength=70.0)
    vectors = spectral_vectors([told], 3, 12)
    length = START_SCALE * 70.0 / (70.0 + RIDGE + NOISE_RIDGE * told.edge)
    np.testing.assert_allclose(vectors[:, 0], np.sqrt(length) * told.head.popular)
    assert not vectors[:, 1:].any()


@given(st.integers(0, 60))
def test_a_triangle_unfolds_to_its_symmetric_matrix(side: int) -> None:
    """The upper triangle in row order gives back the matrix that it was taken from."""
    upper = np.arange(side * (side + 1) // 2, dtype=np.float64)
    assert triangle_side(len(upper)) == side
    full = symmetric(upper)
    assert full.shape == (side, side)
    np.testing.assert_array_equal(full, full.T)
    np.testing.assert_array_equal(full[np.triu_indices(side)], upper)


@given(st.floats(1e-3, 1e4), st.integers(1, 10**7), st.integers(1, 10**5))
def test_the_head_stays_within_its_bounds(noise_std: float, shoppers: int, items: int) -> None:
    """Between the smallest head and the catalogue or EXACT_HEAD; less noise or more shoppers never shrink it."""
    size = head_size(noise_std, shoppers, items)
    assert min(items, SMALLEST_HEAD) <= size <= min(items, EXACT_HEAD)
    assert size <= head_size(noise_std / 2, shoppers, items)
    assert size <= head_size(noise_std, 4 * shoppers, items)
    assert head_size(0.0, shoppers, items) == min(items, EXACT_HEAD)


def test_the_head_of_a_known_federation() -> None:
    """HEAD_FACTOR (shoppers / s)^(2/3): 8,000 shoppers see 400 of it at a deviation of 1, and a hundred at 8."""
    assert head_size(1.0, 8000, 10**5) == pytest.approx(400 * HEAD_FACTOR, abs=1)
    assert head_size(8.0, 8000, 10**5) == pytest.approx(100 * HEAD_FACTOR, abs=1)
    assert head_size(1.0, 8000, 120) == 120


def test_an_event_weighs_less_the_longer_ago_it_is() -> None:
    """The log weight of a bucket is that of its middle place, 0 for the newest event; recency 0 forgets places."""
    weight = Start(recency=0.5).position_weight
    assert weight[0] == 0.0 and (np.diff(weight) < 0).all()
    np.testing.assert_allclose(weight[1:3], -0.5 * np.log([2.5, 5.5]), rtol=1e-6)
    assert not Start(recency=0.0).position_weight.any()


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
    """Head items keep their vectors exactly, tail items have no ID embedding, refusals count against."""
    random = np.random.default_rng(6)
    features = catalogue([f"brand {number % 4}" for number in range(20)])
    schema = Schema(items=20, content_features=features.shape[1], dim=3)
    head = np.array([1, 4, 7, 8, 12])
    vectors = np.zeros((20, 3))
    vectors[head] = random.normal(size=(5, 3))
    bias = random.normal(size=20)
    weights = start(schema, features, head, vectors, bias, Start(recency=0.7, prior=0.4))
    check(weights, schema)
    np.testing.assert_allclose(encode_items(weights, features)[head], vectors[head], atol=1e-5)
    tail = np.setdiff1d(np.arange(20), head)
    assert not weights["item_id"][tail].any()
    np.testing.assert_allclose(weights["item_bias"], bias, rtol=1e-6)
    refused = [KINDS.index("dismiss"), KINDS.index("return")]
    assert (weights["kind_weight"][refused] == UNWANTED).all()
    assert not np.delete(weights["kind_weight"], refused).any()
    np.testing.assert_allclose(weights["prior_scale"], 0.4)
    np.testing.assert_array_equal(weights["position_weight"], Start(recency=0.7).position_weight)
    assert (weights["gain"] == 1.0).all()
    np.testing.assert_allclose(weights["rarity"], DAMPING)
