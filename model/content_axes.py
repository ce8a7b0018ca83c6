"""Axes of public content: directions of item space in which alike items lie together, tail items too."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from model.content_basis import directions

CONTENT_DIRECTIONS = 256
"""How many directions of public content histories are read in (chosen on validation cuts)."""

NEGLIGIBLE = 1e-5
"""Share of the longest direction below which another is rounding."""


def content_axes(
    features: sp.csr_matrix, popular: NDArray[np.float64], dim: int = CONTENT_DIRECTIONS
) -> NDArray[np.float32]:
    """Return orthonormal columns (items, k <= dim): item space as far as public content tells items apart.

    A history read in them says what alike items have in common, under the noise of a (k, k) matrix instead of one
    over the head; all columns are perpendicular to `popular` (items,), which the counts have told already.
    """
    wanted = min(dim, *(side - 1 for side in features.shape))
    if wanted < 1:
        return np.zeros((features.shape[0], 0), dtype=np.float32)
    content = np.asarray(features @ directions(features, wanted))
    content -= np.outer(popular, popular @ content)
    axes, lengths, _ = scipy.linalg.svd(content, full_matrices=False)
    return np.asarray(axes[:, lengths > NEGLIGIBLE * lengths[0]], dtype=np.float32)
