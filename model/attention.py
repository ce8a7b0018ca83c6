"""One head of causal attention from a shopper's newest event back to the older ones.

log a_h of event h gains SHARPNESS * sum_d attention_d n_d k_hd, where n and k_h are the unit item vectors of the
newest event and of event h: what resembles the newest event counts more, in the directions that training finds.
It has one parameter per dimension, so that its noise stays small, and is 0 at the start, where the tower pools.
The unit vectors are constants of the gradient: attention teaches the items nothing.
"""

from __future__ import annotations

import numpy as np

from model.factors import Cohort, Factors, Floats
from model.features import Histories
from model.schema import Weights
from model.threads import in_parts

SHARPNESS = 16.0
"""What a step on the parameter is worth against a step on the kind, position and age weights (validation cuts)."""

BLOCK = 32_768
"""Events whose vectors are in memory at once."""


def attention_weights(weights: Weights, item_vectors: Floats, histories: Histories) -> Floats:
    """Return the factor of each event's weight, (events,); ones where the version has no attention."""
    factors = np.ones(len(histories.items), dtype=np.float32)
    if not weights.get("attention", factors[:0]).any():
        return factors
    newest = histories.items[np.maximum(histories.indptr[1:] - 1, 0)[histories.rows]]
    for start in range(0, len(factors), BLOCK):
        block = slice(start, start + BLOCK)
        queries = unit(item_vectors[newest[block]]) * weights["attention"]
        logits = SHARPNESS * (queries * unit(item_vectors[histories.items[block]])).sum(axis=1)
        factors[block] = np.exp(np.clip(logits, -10.0, 10.0))
    return factors


def unit(vectors: Floats) -> Floats:
    """Return the vectors at length 1; a zero vector stays zero."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def attention_slopes(vectors: Floats, cohort: Cohort, factors: Factors) -> Floats:
    """Return the gradient on the attention of each shopper, (shoppers, dim)."""
    from model.kernels_attention import slopes  # numba loads only where gradients are computed

    found = np.zeros(factors.u.shape, dtype=np.float32)
    in_parts(slopes, len(found), vectors, cohort, factors.along, SHARPNESS, found)
    return found
