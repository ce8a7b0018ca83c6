"""What a cohort adds to a sum: every shopper's share is bounded to L2 norm C, then the shares are added up.

The same functions serve a merchant with thousands of shoppers and a device with one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.shoppers import Shoppers
from model.gradient import CHUNK, cohort_gradient, zero_sum
from model.head import Head
from model.losses import Loss
from model.sampling import Examples
from model.schema import Weights
from privacy.mechanism import clip_factors

Array = NDArray[np.float64]

ROUNDING = 1e-6
"""Share of a squared length below which a difference is taken for nothing: its direction would be arbitrary."""


def count_share(shoppers: Shoppers, items: int, clipping_norm: float) -> Array:
    """Return sum over shoppers of C x / |x|, (items,): x marks the items that a shopper liked."""
    liked = shoppers.incidence(np.arange(items), items)
    lengths = np.sqrt(np.asarray(liked.sum(axis=1)).ravel())
    return np.asarray(liked.T @ _scaled(lengths, clipping_norm))


@dataclass(frozen=True)
class HeadHistories:
    """Histories of a cohort in the axes of a head: y = E x - along q, kept apart so that E x stays sparse.

    Attributes:
        scaled: (shoppers, m) sparse E x; popular: (m,) the unit vector q.
        along: (shoppers,) q . E x; squares: (shoppers,) |y|^2, 0 where nothing but rounding is left.
    """

    scaled: sp.csr_matrix
    popular: Array
    along: Array
    squares: Array

    @classmethod
    def of(cls, shoppers: Shoppers, head: Head, items: int) -> Self:
        """Read what shoppers like among the head items of a catalogue of `items`."""
        scaled = sp.csr_matrix(shoppers.incidence(head.items, items) @ sp.diags(head.scale))
        along = np.asarray(scaled @ head.popular)
        whole = np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel()
        return cls(scaled, head.popular, along, _above_rounding(whole - along**2, whole))


def gram_share(histories: HeadHistories, clipping_norm: float) -> Array:
    """Return sum over shoppers of the upper triangle of C y y^T / |y|^2, (m (m + 1) / 2,).

    Entries off the diagonal carry a factor sqrt(2), so that the triangle has the norm of the whole matrix: every
    share has norm exactly C, and the coordinator gets the matrix back with noise that is isotropic on it.
    """
    weights = _scaled(histories.squares, clipping_norm)
    scaled, along, popular = histories.scaled, histories.along, histories.popular
    gram = np.asarray((scaled.T @ sp.diags(weights) @ scaled).toarray())
    cross = np.outer(scaled.T @ (weights * along), popular)
    return triangle_of(gram - cross - cross.T + float(weights @ along**2) * np.outer(popular, popular))


def subspace_share(histories: HeadHistories, basis: NDArray[np.float32], clipping_norm: float) -> Array:
    """Return sum over shoppers of the upper triangle of C z z^T / |z|^2 for z = basis^T y, (k (k + 1) / 2,).

    A shopper whose |z| is not finite adds nothing.
    """
    columns = np.asarray(basis, dtype=np.float64)
    z = histories.scaled @ columns - np.outer(histories.along, histories.popular @ columns)
    squares = np.square(z).sum(axis=1)
    finite = np.isfinite(squares)
    z, whole = z[finite], histories.squares[finite]
    squares = _above_rounding(squares[finite], whole) * (whole > 0)
    return triangle_of((z * _scaled(squares, clipping_norm)[:, None]).T @ z)


def triangle_of(matrix: Array) -> Array:
    """Return the upper triangle of a symmetric matrix in row order, of the norm of the whole matrix."""
    rows, columns = np.triu_indices(len(matrix))
    return np.asarray(matrix[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0)))


def _above_rounding(squares: Array, whole: Array) -> Array:
    """Return squared lengths with those cleared that are rounding errors of a difference of longer ones."""
    return np.where(squares > ROUNDING * whole, squares, 0.0)


def _scaled(lengths: Array, clipping_norm: float) -> Array:
    """Return C / length, and 0 for a shopper who likes nothing."""
    return np.divide(clipping_norm, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def gradient_share(
    weights: Weights,
    vectors: NDArray[np.float32],
    examples: Examples,
    log_q: Array,
    trained: frozenset[str],
    clipping_norm: float,
    loss: Loss = Loss.SAMPLED_SOFTMAX,
) -> dict[str, Array]:
    """Return the sum over shoppers of the clipped gradient of each trained parameter.

    Shoppers are taken in chunks, so that memory stays bounded whatever their number. One whose gradient has a norm
    that is not finite adds nothing.
    """
    total = zero_sum(trained, *vectors.shape)
    for start in range(0, len(examples), CHUNK):
        chunk = examples.part(start, start + CHUNK)
        gradient = cohort_gradient(weights, vectors, chunk, log_q, loss)
        norms = np.sqrt(gradient.squared_norms(trained))
        finite = np.isfinite(norms)
        if not finite.all():
            gradient = cohort_gradient(weights, vectors, chunk.select(np.flatnonzero(finite)), log_q, loss)
        gradient.add_to(total, clip_factors(norms[finite], clipping_norm))
    return total
