"""Content directions keep cosines; companions are bounded shares, and their noise is shrunk away."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.content_basis import companion_share, companions, content_rows, directions
from model.errors import ShapeError

Array = NDArray[np.float64]


def features(items: int = 40, columns: int = 30, seed: int = 1) -> sp.csr_matrix:
    """Random sparse features."""
    random = np.random.default_rng(seed)
    made = random.random((items, columns)) * (random.random((items, columns)) < 0.3)
    return sp.csr_matrix(made.astype(np.float32))


def likes(shoppers: int = 20, items: int = 40, seed: int = 2) -> sp.csr_matrix:
    """Who liked what; the first shopper likes nothing."""
    drawn = np.random.default_rng(seed).random((shoppers, items)) < 0.15
    drawn[0] = False
    return sp.csr_matrix(drawn.astype(np.float64))


def test_directions_are_orthonormal_and_the_strongest() -> None:
    """As the exact singular value decomposition finds them, sign apart."""
    made = features()
    found = directions(made, 5)
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-9)
    exact = np.linalg.svd(made.toarray().astype(np.float64))[2][:5].T
    np.testing.assert_allclose(np.abs(np.einsum("ij,ij->j", found, exact)), 1.0, atol=1e-6)


def test_all_directions_keep_every_product() -> None:
    """F Q Q^T F^T = F F^T."""
    made = features()
    rows = made @ directions(made, 30)
    np.testing.assert_allclose(rows @ rows.T, (made @ made.T).toarray(), atol=1e-6)


def test_directions_are_the_same_every_time() -> None:
    """The endpoint gets them as a table, but a run repeated gives the same table."""
    np.testing.assert_array_equal(directions(features(), 4), directions(features(), 4))


@pytest.mark.parametrize("dim", [0, 31])
def test_more_directions_than_there_are_cannot_be_asked_for(dim: int) -> None:
    """The error names how many there are."""
    with pytest.raises(ShapeError, match=f"{dim} content directions.*1 to 30"):
        directions(features(), dim)


def test_content_rows_have_no_mean_and_length_one_on_average() -> None:
    """What all items share says nothing; the scale is that of cosines."""
    rows = content_rows(features(), directions(features(), 8))
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-12)
    assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(1.0)


@given(seed=st.integers(0, 1000), norm=st.floats(0.1, 10.0))
def test_every_share_has_the_clipping_norm_or_is_nothing(seed: int, norm: float) -> None:
    """Without one shopper the sum moves by exactly C: the sensitivity that the noise is priced for."""
    liked, content = likes(seed=seed), np.random.default_rng(seed).standard_normal((40, 6))
    head = np.arange(3, 25)
    whole = companion_share(liked, head, content, norm)
    for shopper in range(liked.shape[0]):
        others = sp.csr_matrix(np.delete(liked.toarray(), shopper, axis=0))
        moved = np.linalg.norm(whole - companion_share(others, head, content, norm))
        heard = liked[shopper].toarray()[0, head].any()
        assert moved == pytest.approx(norm if heard else 0.0, abs=1e-9)


def test_a_share_is_the_outer_product_of_items_and_content() -> None:
    """One shopper by hand: items 0 and 2 of a head of three."""
    content = np.array([[3.0, 0.0], [9.0, 9.0], [0.0, 4.0]])
    share = companion_share(sp.csr_matrix([[1.0, 0.0, 1.0]]), np.arange(3), content, 2.0)
    expected = 2.0 * np.outer([1.0, 0.0, 1.0], [3.0, 4.0]) / (np.sqrt(2.0) * 5.0)
    np.testing.assert_allclose(share, expected)


def test_a_history_whose_content_cancels_adds_nothing() -> None:
    """Its direction would be rounding; nothing is divided by zero."""
    content = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert not companion_share(sp.csr_matrix([[1.0, 1.0]]), np.arange(2), content, 1.0).any()


def test_companions_leave_out_what_the_item_is_itself() -> None:
    """The part along its own content is known without any release."""
    random = np.random.default_rng(4)
    total, own = random.standard_normal((7, 3)), random.standard_normal((7, 3))
    made = companions(total, own, np.full(7, 5.0), 0.0)
    np.testing.assert_allclose((made * own).sum(axis=1), 0.0, atol=1e-12)
    assert np.linalg.norm(made, axis=1).mean() == pytest.approx(1.0)


def test_rows_that_the_noise_explains_are_dropped() -> None:
    """A row no longer than noise alone adds nothing, one far longer is kept nearly as it is."""
    quiet, loud = np.array([0.5, 0.5, 0.5]), np.array([0.0, 0.0, 40.0])
    own = np.tile([1.0, 0.0, 0.0], (2, 1))
    made = companions(np.stack([quiet, loud]), own, np.ones(2), 1.0)
    assert not made[0].any()
    np.testing.assert_allclose(made[1], [0.0, 0.0, 1.0])


def test_nothing_released_adds_nothing() -> None:
    """All zeros stay zeros, without a warning."""
    assert not companions(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3), 1.0).any()


def test_noise_in_popular_items_matters_less() -> None:
    """Two planted tastes are found again under noise for items with many buyers."""
    random = np.random.default_rng(9)
    content = np.concatenate([np.eye(4)[[0] * 5], np.eye(4)[[1] * 5]]) + 0.05 * random.standard_normal(
        (10, 4)
    )
    pairs = np.zeros((400, 10))
    pairs[np.arange(400), random.integers(0, 5, 400)] = 1.0  # every shopper buys across the two kinds
    pairs[np.arange(400), random.integers(5, 10, 400)] = 1.0
    total = companion_share(sp.csr_matrix(pairs), np.arange(10), content, 1.0)
    noisy = total + 2.0 * random.standard_normal(total.shape)
    made = companions(noisy, content, pairs.sum(axis=0), 2.0)
    assert (made[:5, 1] > 0.5).all() and (made[5:, 0] > 0.5).all()
