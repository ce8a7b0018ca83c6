"""The spectral start: item-ID embeddings from a (noisy) Gram matrix of what shoppers have in common.

G = sum over shoppers of x x^T, each scaled to a bounded norm. Its leading eigenvectors, filtered by
l / (l + ridge), are the best linear autoencoder of that rank. Noise of standard deviation s in each entry of a
symmetric (m, m) matrix fills the eigenvalues up to the edge 2 s sqrt(m) of a semicircle; what lies below the edge
is dropped and what lies above is shrunk as in the spiked model (Gavish & Donoho 2017). All of it is post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from model.features import KINDS
from model.schema import Schema, Weights

RIDGE = 20.0
"""Eigenvalue at which half of a direction is kept: in units of shoppers who share it."""

CONTENT_RIDGE = 10.0
START_PRIOR = 0.25
UNWANTED = -4.0
"""Initial log weight of dismissed and returned items in the history."""
HEAD_FACTOR = 150
SMALLEST_HEAD = 50
EXACT_HEAD = 4000
DAMPING = 0.1
"""Exponent that takes some of the popularity out of the vectors: popularity^-0.1 of each item."""
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


@dataclass(frozen=True, kw_only=True)
class GramBlock:
    """A Gram matrix over some head items; items of different blocks have nothing in common by construction.

    Attributes:
        items: (m,) catalogue indices of its rows.
        gram: (m, m) symmetric, in units of shoppers.
        noise_std: standard deviation of the noise off the diagonal (0 for an exact matrix).
    """

    items: NDArray[np.int64]
    gram: NDArray[np.float64]
    noise_std: float


def spectral_vectors(
    blocks: list[GramBlock], dim: int, items: int, ridge: float = RIDGE
) -> NDArray[np.float64]:
    """Return item vectors (items, dim) with vectors @ vectors.T = START_SCALE times the filtered operator.

    The `dim` strongest directions over all blocks are kept; columns that the noise hides are zero.
    """
    found = [_directions(block, dim) for block in blocks]
    strengths = np.concatenate([values for values, _ in found])
    owner = np.concatenate([np.full(len(values), number) for number, (values, _) in enumerate(found)])
    place = np.concatenate([np.arange(len(values)) for values, _ in found])
    vectors = np.zeros((items, dim))
    for column, strongest in enumerate(np.argsort(-strengths, kind="stable")[:dim]):
        value, block = strengths[strongest], int(owner[strongest])
        scale = np.sqrt(START_SCALE * value / (value + ridge))
        vectors[blocks[block].items, column] = scale * found[block][1][:, place[strongest]]
    return vectors


def _directions(block: GramBlock, dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cleaned eigenvalues, strongest first, and their eigenvectors (m, rank)."""
    side = len(block.gram)
    rank = min(dim, side)
    if rank == 0:
        return np.zeros(0), np.zeros((0, 0))
    values, basis = scipy.linalg.eigh(block.gram, subset_by_index=[side - rank, side - 1])
    return shrunk(np.maximum(values, 0.0), block.noise_std * np.sqrt(side))[::-1], _signed(basis[:, ::-1])


def _signed(basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the columns with their largest entry positive, since an eigenvector's sign is arbitrary."""
    largest = np.abs(basis).argmax(axis=0)
    return np.asarray(basis * np.sign(basis[largest, np.arange(basis.shape[1])]))


def head_size(mu: float, shoppers: int, items: int) -> int:
    """Return how many popular items the Gram covers, from public facts alone.

    More noise or fewer shoppers need a smaller head: the edge 2 s sqrt(m) has to stay below the eigenvalues,
    which grow with the shoppers. The factor was chosen on validation cuts of public data; an exact Gram
    (infinite mu) covers up to EXACT_HEAD items.
    """
    wanted = EXACT_HEAD if np.isinf(mu) else HEAD_FACTOR * mu * np.sqrt(shoppers / 1000)
    return int(min(items, EXACT_HEAD, max(wanted, SMALLEST_HEAD)))


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
) -> Weights:
    """Return initial weights: head items from `vectors` (items, dim), all others through their content.

    The content table is the ridge regression of the head vectors on the public features; the ID embedding of a
    head item is what content leaves over, and that of a tail item is zero.
    """
    weights = schema.zeros()
    damped = vectors[head] * np.exp(-DAMPING * (item_bias[head] - item_bias[head].mean()))[:, None]
    content = content_table(sp.csr_matrix(features[head]), damped)
    weights["content"] = content.astype(np.float32)
    weights["item_id"][head] = (damped - features[head] @ content).astype(np.float32)
    weights["item_bias"] = item_bias.astype(np.float32)
    weights["prior_scale"][:] = START_PRIOR
    weights["gain"][:] = 1.0
    weights["kind_weight"][[KINDS.index("dismiss"), KINDS.index("return")]] = UNWANTED
    return weights


def content_table(
    features: sp.csr_matrix, vectors: NDArray[np.float64], ridge: float = CONTENT_RIDGE
) -> NDArray[np.float64]:
    """Return the (features, dim) table that best predicts vectors (m, dim) from features (m, features)."""
    normal = (features.T @ features).toarray().astype(np.float64)
    normal[np.diag_indices_from(normal)] += ridge
    return np.asarray(scipy.linalg.solve(normal, features.T @ vectors, assume_a="pos"))
