"""Compiled loop of the attention's gradient (`model.attention`)."""

from __future__ import annotations

from math import sqrt

import numpy as np

from model.compiling import compiled
from model.factors import Cohort, Floats


@compiled
def slopes(
    first: int, last: int, vectors: Floats, cohort: Cohort, along: Floats, sharpness: float, out: Floats
) -> None:
    """Write sharpness * n * sum_h along_h k_h of each shopper, with n and k_h of length 1; 0 without events."""
    for s in range(first, last):
        begin, end = cohort.indptr[s], cohort.indptr[s + 1]
        total = out[s]
        total[:] = 0.0
        if end > begin:
            for h in range(begin, end):
                item = cohort.items[h]
                scale = np.float32(along[h] * _inverse_length(vectors, item))
                for d in range(len(total)):
                    total[d] += scale * vectors[item, d]
            newest = cohort.items[end - 1]
            scale = np.float32(sharpness * _inverse_length(vectors, newest))
            for d in range(len(total)):
                total[d] *= scale * vectors[newest, d]


@compiled
def _inverse_length(vectors: Floats, row: int) -> float:
    """Return 1 / |row|, and 0 for a zero row."""
    square = np.float32(0.0)
    for d in range(vectors.shape[1]):
        square += vectors[row, d] * vectors[row, d]
    return 0.0 if square == 0.0 else 1.0 / sqrt(square)
