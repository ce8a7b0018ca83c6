"""The spectral start: item-ID embeddings from (noisy) second moments of what shoppers have in common.

The leading directions of the second moment of histories, filtered by l / (l + ridge), are the best linear
autoencoder of that rank. Noise of standard deviation s in each entry of a symmetric (k, k) matrix fills the
eigenvalues up to the edge 2 s sqrt(k) of a semicircle; what lies below the edge is dropped and what lies above is
shrunk as in the spiked model (Gavish & Donoho 2017). All of it is post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from model.features import KINDS, POSITION_BUCKETS
from model.head import DAMPING, Head
from model.schema import Schema, Weights

RIDGE = 20.0
"""Eigenvalue at which half of a direction is kept: in units of shoppers who share it."""

NOISE_RIDGE = 1.5
"""What the ridge grows by for each unit of the noise edge: a direction just above it is mostly noise."""

CONTENT_RIDGE = 10.0
UNWANTED = -4.0
"""Initial log weight of dismissed and returned items in the history."""
HEAD_FACTOR = 2.9
HEAD_EXPONENT = 2.0 / 3.0
SMALLEST_HEAD = 50
EXACT_HEAD = 4000
SUBSPACE = 0.5
"""Directions of the first Gram that the second looks into, as a share of the head."""
START_SCALE = 128.0
"""Scale of the initial affinity, so that a good match stands out among 64 negatives (chosen on validation cuts)."""

Array = NDArray[np.float64]


def triangle_side(entries: int) -> int:
    """Return m for the m (m + 1) / 2 entries of an upper triangle."""
    return int((np.sqrt(8 * entries + 1) - 1) / 2)


def symmetric(upper: Array) -> Array:
    """Return the full (m, m) matrix from its upper triangle in row order."""
    side = triangle_side(len(upper))
    full = np.zeros((side, side))
    full[np.triu_indices(side)] = upper
    return full + np.triu(full, 1).T


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where the user tower starts; gradient rounds move it from there.

    Attributes:
        recency: an event weighs 1 / place^recency, the newest in place 1.
        prior: what a step in log popularity adds to a score.
        damping: exponent that takes some of the popularity out of the item vectors: popularity^-damping.
    """

    recency: float = 0.5
    prior: float = 0.25
    damping: float = DAMPING

    @property
    def position_weight(self) -> NDArray[np.float32]:
        """Log weight of each bucket of places, at the middle of the bucket."""
        middles = 1.5 * 2.0 ** np.arange(POSITION_BUCKETS) - 0.5
        return np.asarray(-self.recency * np.log(middles), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class GramBlock:
    """Second moments of histories over some head items; different blocks have nothing in common by construction.

    Attributes:
        head: its m items.
        basis: (m, k) orthonormal columns, perpendicular to `head.popular`, in which the histories were read.
        gram: (k, k) symmetric, in units of shoppers.
        noise_std: standard deviation of the noise off the diagonal (0 for an exact matrix).
        popular_strength: second moment along `head.popular`.
    """

    head: Head
    basis: NDArray[np.float32] | None
    gram: Array
    noise_std: float
    popular_strength: float

    @property
    def edge(self) -> float:
        """Largest eigenvalue that the noise alone reaches."""
        return 2.0 * self.noise_std * float(np.sqrt(len(self.gram)))

    def leading(self, count: int) -> tuple[Array, Array]:
        """Return the `count` largest eigenvalues, strongest first, and their directions (m, count).

        Where histories were read in all m items, the direction of the popular items is left out: it is known.
        """
        gram, count = self.gram, min(count, len(self.gram) - (self.basis is None))
        if count < 1:
            return np.zeros(0), np.zeros((len(self.head), 0))
        if self.basis is None:
            gram = _without(gram, self.head.popular)
        side = len(gram)
        values, vectors = scipy.linalg.eigh(gram, subset_by_index=[side - count, side - 1])
        directions = vectors[:, ::-1] if self.basis is None else self.basis @ vectors[:, ::-1]
        return values[::-1], signed(np.asarray(directions, dtype=np.float64))


def _without(gram: Array, popular: Array) -> Array:
    """Return the matrix with one direction taken out, and that direction last among its eigenvectors."""
    along = gram @ popular
    level = float(popular @ along)
    cleared = gram - np.outer(popular, along) - np.outer(along, popular) + level * np.outer(popular, popular)
    return np.asarray(cleared - 2.0 * np.abs(gram).sum(axis=1).max(initial=0.0) * np.outer(popular, popular))


def leading_basis(block: GramBlock) -> NDArray[np.float32]:
    """Return the directions (m, k) that a second release looks into: the leading ones, and many below the edge.

    Most of the signal lies in them and only a share of the axes does, so that a share of bounded length says more
    about each, under less noise in all (subspace iteration, Hardt & Price 2014, with renewed normalisation).
    """
    _, directions = block.leading(int(np.ceil(SUBSPACE * len(block.head))))
    return directions.astype(np.float32)


def spectral_vectors(blocks: list[GramBlock], dim: int, items: int) -> Array:
    """Return item vectors (items, dim) whose products along each direction are START_SCALE times its filter.

    The `dim` strongest directions over all blocks are kept; columns that the noise hides are zero.
    """
    found = [_filtered(block, dim) for block in blocks]
    strengths = np.concatenate([values for values, _ in found])
    owner = np.concatenate([np.full(len(values), number) for number, (values, _) in enumerate(found)])
    place = np.concatenate([np.arange(len(values)) for values, _ in found])
    vectors = np.zeros((items, dim))
    for column, strongest in enumerate(np.argsort(-strengths, kind="stable")[:dim]):
        block = int(owner[strongest])
        direction = found[block][1][:, place[strongest]]
        vectors[blocks[block].head.items, column] = np.sqrt(START_SCALE * strengths[strongest]) * direction
    return vectors


def _filtered(block: GramBlock, dim: int) -> tuple[Array, Array]:
    """Return what is kept of each direction, 0 to 1, and the directions (m, rank); the popular one first."""
    if not len(block.head):
        return np.zeros(0), np.zeros((0, 0))
    values, directions = block.leading(dim)
    values = np.append(block.popular_strength, shrunk(np.maximum(values, 0.0), block.edge / 2.0))
    popular = block.head.popular[:, None]
    return values / (values + RIDGE + NOISE_RIDGE * block.edge), np.concatenate([popular, directions], axis=1)


def signed(basis: Array) -> Array:
    """Return the columns with their largest entry positive, since an eigenvector's sign is arbitrary."""
    if not basis.size:
        return basis
    largest = np.abs(basis).argmax(axis=0)
    return np.asarray(basis * np.sign(basis[largest, np.arange(basis.shape[1])]))


def head_size(noise_std: float, shoppers: int, items: int) -> int:
    """Return how many popular items the Gram covers, from public facts alone.

    More noise or fewer shoppers need a smaller head: the edge 2 s sqrt(m) has to stay below the eigenvalues,
    which grow with the shoppers. The factor was chosen on validation cuts of public data; an exact Gram covers up
    to EXACT_HEAD items.
    """
    wanted = EXACT_HEAD if noise_std == 0.0 else HEAD_FACTOR * (shoppers / noise_std) ** HEAD_EXPONENT
    return int(min(items, EXACT_HEAD, max(wanted, SMALLEST_HEAD)))


def shrunk(values: Array, scale: float) -> Array:
    """Return eigenvalues freed of noise of semicircle radius 2 `scale`; those inside the edge become 0."""
    above = np.maximum(values**2 - 4.0 * scale**2, 0.0)
    return np.where(values > 2.0 * scale, (values + np.sqrt(above)) / 2.0, 0.0)


def start(
    schema: Schema,
    features: sp.csr_matrix,
    head: NDArray[np.int64],
    vectors: Array,
    item_bias: Array,
    begin: Start,
) -> Weights:
    """Return initial weights: head items from `vectors` (items, dim), all others through their content.

    The content table is the ridge regression of the head vectors on the public features; the ID embedding of a
    head item is what content leaves over, and that of a tail item is zero.
    """
    weights = schema.zeros()
    bias = item_bias[head] - (item_bias[head].mean() if len(head) else 0.0)
    vectors = vectors[head] * np.exp((DAMPING - begin.damping) * bias)[:, None]
    content = content_table(sp.csr_matrix(features[head]), vectors)
    weights["content"] = content.astype(np.float32)
    weights["item_id"][head] = (vectors - features[head] @ content).astype(np.float32)
    weights["item_bias"] = item_bias.astype(np.float32)
    weights["prior_scale"][:] = begin.prior
    weights["position_weight"][:] = begin.position_weight
    weights["rarity"][:] = 2.0 * DAMPING - begin.damping
    weights["gain"][:] = 1.0
    weights["kind_weight"][[KINDS.index("dismiss"), KINDS.index("return")]] = UNWANTED
    return weights


def content_table(features: sp.csr_matrix, vectors: Array, ridge: float = CONTENT_RIDGE) -> Array:
    """Return the (features, dim) table that best predicts vectors (m, dim) from features (m, features)."""
    normal = (features.T @ features).toarray().astype(np.float64)
    normal[np.diag_indices_from(normal)] += ridge
    return np.asarray(scipy.linalg.solve(normal, features.T @ vectors, assume_a="pos"))
