"""What a cohort adds to a sum: every shopper's share is bounded to L2 norm C, then the shares are added up.

The same functions serve a merchant with thousands of shoppers and a device with one.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.shoppers import Shoppers
from model.gradient import CHUNK, cohort_gradient, zero_sum
from model.sampling import Examples
from model.schema import Weights
from privacy.mechanism import clip_factors

Array = NDArray[np.float64]


def count_share(shoppers: Shoppers, items: int, clipping_norm: float) -> Array:
    """Return sum over shoppers of C x / |x|, (items,): x marks the items that a shopper liked."""
    liked = shoppers.incidence(np.arange(items), items)
    lengths = np.sqrt(np.asarray(liked.sum(axis=1)).ravel())
    return np.asarray(liked.T @ _scaled(lengths, clipping_norm))


def gram_share(shoppers: Shoppers, head: NDArray[np.int64], items: int, clipping_norm: float) -> Array:
    """Return sum over shoppers of the upper triangle of C x x^T / |x|^2 over the head items, (m (m + 1) / 2,).

    Entries off the diagonal carry a factor sqrt(2), so that the triangle has the norm of the whole matrix: every
    share has norm exactly C, and the coordinator gets the matrix back with noise that is isotropic on it.
    """
    liked = shoppers.incidence(head, items)
    lengths = np.asarray(liked.sum(axis=1), dtype=np.float64).ravel()
    gram = np.asarray((liked.T @ sp.diags(_scaled(lengths, clipping_norm)) @ liked).toarray())
    rows, columns = np.triu_indices(len(head))
    return np.asarray(gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0)))


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
) -> dict[str, NDArray[np.float32]]:
    """Return the sum over shoppers of the clipped gradient of each trained parameter.

    Shoppers are taken in chunks, so that memory stays bounded whatever their number.
    """
    total = zero_sum(trained, *vectors.shape)
    for start in range(0, len(examples), CHUNK):
        gradient = cohort_gradient(weights, vectors, examples.part(start, start + CHUNK), log_q)
        norms = np.sqrt(gradient.squared_norms(trained))
        gradient.add_to(total, clip_factors(norms, clipping_norm))
    return total
