"""Complement vectors: products w_i . w_j say how much more often two items are taken together than by chance.

Baskets are read in few axes that tell all items apart, those of the tail too: the leading directions of the item
vectors, and of the public content, which cost no budget. The axes are centred and whitened by the released
popularity: baskets drawn by popularity alone would then have no moment at all, and what is left is specific. Rows
are divided by the root of their length, which grows with popularity too. The released moment of the baskets in
these axes becomes vectors by the step of `model.spectral`: eigenvalues below the edge of the noise are dropped,
those above it shrunk and filtered by l / (l + ridge). It is all post-processing.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from model.content_basis import directions
from model.schema import COMPLEMENT_LIMIT
from model.spectral import NOISE_RIDGE, shrunk, signed

FROM_VECTORS, FROM_CONTENT = 32, 32
"""How many axes come from the item vectors, and from public content (chosen on validation cuts)."""

COMPLEMENT_RIDGE = 5.0
"""Eigenvalue at which half of a direction is kept: in units of shoppers who share it."""

NEGLIGIBLE = 1e-6
"""Share of the strongest second moment below which a direction is rounding."""

Array = NDArray[np.float64]


def basket_axes(
    vectors: NDArray[np.float32], features: sp.csr_matrix, probabilities: Array
) -> NDArray[np.float32]:
    """Return the axes (items, k <= 64) in which baskets are read.

    Args:
        vectors: (items, dim) the item tower's.
        features: (items, features) of the public catalogue.
        probabilities: (items,) released popularity, summing to 1.
    """
    wanted = min(FROM_CONTENT, *features.shape)
    content = np.asarray(features @ directions(features, wanted)) if wanted else np.zeros((len(vectors), 0))
    learned = _whitened(vectors.astype(np.float64), probabilities, FROM_VECTORS)
    public = _whitened(content, probabilities, FROM_CONTENT)
    both = np.concatenate([learned, public], axis=1)
    axes = _whitened(both, probabilities, COMPLEMENT_LIMIT)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return np.asarray(axes / np.sqrt(np.where(lengths > 0, lengths, 1.0)), dtype=np.float32)


def _whitened(rows: Array, probabilities: Array, most: int) -> Array:
    """Return the strongest directions of rows (items, n), of mean 0 and unit second moment by popularity."""
    centred = rows - probabilities @ rows
    values, directions_of = scipy.linalg.eigh(centred.T @ (centred * probabilities[:, None]))
    values, directions_of = values[::-1][:most], directions_of[:, ::-1][:, :most]
    kept = values > NEGLIGIBLE * max(float(values.max(initial=0.0)), 1e-300)
    return np.asarray(centred @ (signed(directions_of[:, kept]) / np.sqrt(values[kept])))


def complement_vectors(axes: NDArray[np.float32], moment: Array, noise_std: float) -> NDArray[np.float32]:
    """Return the complement vectors (items, c) from the released moment of baskets (k, k); c is 0 if all is noise.

    Vectors are scaled so that products of popular items are of the size of a score.

    Args:
        axes: of `basket_axes`.
        moment: symmetric, in units of shoppers.
        noise_std: standard deviation of the noise off its diagonal (0 for an exact one).
    """
    values, directions_of = scipy.linalg.eigh(moment)
    edge = 2.0 * noise_std * float(np.sqrt(len(moment)))
    values = shrunk(np.maximum(values, 0.0), edge / 2.0)
    strengths = values / (values + COMPLEMENT_RIDGE + NOISE_RIDGE * edge)
    kept = np.argsort(-strengths, kind="stable")[: int(np.count_nonzero(strengths))]
    length = max(float(np.linalg.norm(strengths)), 1e-300)
    columns = signed(directions_of[:, kept]) * np.sqrt(strengths[kept] / length)
    return np.asarray(axes @ columns, dtype=np.float32)
