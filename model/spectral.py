"""The spectral start: item-ID embeddings from a (noisy) Gram matrix of what shoppers have in common.

G = sum over shoppers of x x^T, each scaled to a bounded norm. Its leading eigenvectors, filtered by
l / (l + ridge), are the best linear autoencoder of that rank. Noise of standard deviation s in each entry of a
symmetric (m, m) matrix fills the eigenvalues up to the edge 2 s sqrt(m) of a semicircle; what lies below the edge
is dropped and what lies above is shrunk as in the spiked model (Gavish & Donoho 2017). All of it is post-processing.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from model.schema import Schema, Weights

RIDGE = 20.0
"""Eigenvalue at which half of a direction is kept: in units of shoppers who share it."""

CONTENT_RIDGE = 1.0
START_SCALE = 128.0
"""Scale of the initial affinity, so that a good match stands out among 64 negatives (chosen on validation cuts)."""


def triangle_side(entries: int) -> int:
    """Return m for the m (m + 1) / 2 entries of an upper triangle."""
    return int((np.sqrt(8 * entries + 1) - 1) / 2)


def symmetric(upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the full (m, m) matrix from its upper triangle in row order."""
    side = triangle_side(len(upper))
    full = np.zeros((side, side))
    full[np.triu_indices(side)] = upper
    return full + np.triu(full, 1).T


def spectral_vectors(
    gram: NDArray[np.float64], dim: int, noise_std: float, ridge: float = RIDGE
) -> NDArray[np.float64]:
    """Return item vectors (m, dim) with vectors @ vectors.T = START_SCALE times the filtered Gram operator.

    Args:
        gram: (m, m) symmetric, in units of shoppers.
        dim: columns wanted; columns that the noise hides are zero.
        noise_std: standard deviation of the noise in each entry (0 for an exact Gram).
        ridge: half-way point of the filter l / (l + ridge).
    """
    side = len(gram)
    rank = min(dim, side)
    values, basis = scipy.linalg.eigh(gram, subset_by_index=[side - rank, side - 1])
    clean = shrunk(values, noise_std * np.sqrt(side))
    filtered = basis * np.sqrt(START_SCALE * clean / (clean + ridge))
    vectors = np.zeros((side, dim))
    vectors[:, :rank] = filtered[:, ::-1]
    return vectors


def shrunk(values: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Return eigenvalues freed of noise of semicircle radius 2 `scale`; those inside the edge become 0."""
    above = np.maximum(values**2 - 4.0 * scale**2, 0.0)
    return np.where(values > 2.0 * scale, (values + np.sqrt(above)) / 2.0, 0.0)


def start(
    schema: Schema,
    features: sp.csr_matrix,
    head: NDArray[np.int64],
    vectors: NDArray[np.float64],
    item_bias: NDArray[np.float64],
    prior_scale: float,
) -> Weights:
    """Return initial weights: head items from `vectors` (m, dim), all others through their content.

    The content table is the ridge regression of the vectors on the public features of the head items; the ID
    embedding of a head item is what content leaves over, and that of a tail item is zero.
    """
    weights = schema.zeros()
    content = content_table(sp.csr_matrix(features[head]), vectors)
    weights["content"] = content.astype(np.float32)
    weights["item_id"][head] = (vectors - features[head] @ content).astype(np.float32)
    weights["item_bias"] = item_bias.astype(np.float32)
    weights["prior_scale"][:] = prior_scale
    weights["gain"][:] = 1.0
    return weights


def content_table(
    features: sp.csr_matrix, vectors: NDArray[np.float64], ridge: float = CONTENT_RIDGE
) -> NDArray[np.float64]:
    """Return the (features, dim) table that best predicts vectors (m, dim) from features (m, features)."""
    dual = (features @ features.T).toarray().astype(np.float64)
    dual[np.diag_indices_from(dual)] += ridge
    return np.asarray(features.T @ scipy.linalg.solve(dual, vectors, assume_a="pos"))
