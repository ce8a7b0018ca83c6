"""The two towers in numpy: what the coordinator, a device and the ranking endpoint compute.

Item tower: v_i = item_id[i] + features[i] @ content.
User tower: u = gain * sum_h a_h v_h / sqrt(sum_h a_h) + sum of the context rows of the moment, where
log a_h = kind_weight + position_weight + age_weight of event h - rarity * item_bias of its item, so that what
everybody has says less about a shopper; the attention tower adds what `model.attention` says. The history stays
with its owner.
Score: u . v_i + prior_scale * item_bias[i].
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from model.attention import attention_weights
from model.features import (
    AGE_BUCKETS,
    DAY,
    POSITION_BUCKETS,
    Histories,
    Moments,
    log_bucket,
    positions_from_end,
)
from model.schema import Weights

Matrix = NDArray[np.float32]


def encode_items(weights: Weights, features: sp.csr_matrix) -> Matrix:
    """Return the item vectors (items, dim) from the ID embedding and the item features (items, features)."""
    return np.asarray(weights["item_id"] + features @ weights["content"], dtype=np.float32)


def age_buckets(histories: Histories, moments: Moments) -> NDArray[np.int64]:
    """Return the bucket of each event's age in days at the shopper's moment, -1 where no clock is known."""
    now = moments.times[histories.rows]
    return np.where(now < 0, -1, log_bucket((now - histories.times) // DAY, AGE_BUCKETS))


def event_weights(
    weights: Weights, item_vectors: Matrix, histories: Histories, moments: Moments
) -> NDArray[np.float32]:
    """Return a_h, the positive weight of each history event, (events,)."""
    positions = log_bucket(positions_from_end(histories.indptr), POSITION_BUCKETS)
    ages = age_buckets(histories, moments)
    logits = weights["kind_weight"][histories.kinds] + weights["position_weight"][positions]
    logits = logits + np.where(ages < 0, 0.0, weights["age_weight"][ages])
    plain = np.exp(np.clip(logits, -10.0, 10.0))
    rare = rarity_weights(weights)[histories.items]
    return np.asarray(plain * rare * attention_weights(weights, item_vectors, histories), dtype=np.float32)


def rarity_weights(weights: Weights) -> NDArray[np.float32]:
    """Return what each item counts in a history by how rarely it is liked, (items,)."""
    logits = -weights["rarity"][0] * weights["item_bias"]
    return np.asarray(np.exp(np.clip(logits, -10.0, 10.0)), dtype=np.float32)


def pooling(weights: Weights, item_vectors: Matrix, histories: Histories, moments: Moments) -> sp.csr_matrix:
    """Return the matrix (shoppers, items) that pools item vectors into history vectors."""
    a = event_weights(weights, item_vectors, histories, moments)
    totals = np.add.reduceat(np.append(a, 0.0), np.minimum(histories.indptr[:-1], len(a)))
    totals = np.where(np.diff(histories.indptr) > 0, totals, 1.0)
    scaled = a / np.sqrt(totals)[histories.rows]
    return sp.csr_matrix(
        (scaled.astype(np.float32), histories.items, histories.indptr),
        shape=(len(histories), len(item_vectors)),
    )


def context_vectors(weights: Weights, moments: Moments) -> Matrix:
    """Return the sum of the context rows of each moment, (shoppers, dim)."""
    known = moments.codes >= 0
    return np.asarray((weights["context"][moments.codes] * known[:, :, None]).sum(axis=1), dtype=np.float32)


def encode_users(weights: Weights, item_vectors: Matrix, histories: Histories, moments: Moments) -> Matrix:
    """Return the user embeddings (shoppers, dim); an empty history gives the context alone."""
    pooled = pooling(weights, item_vectors, histories, moments) @ item_vectors
    return np.asarray(weights["gain"] * pooled + context_vectors(weights, moments), dtype=np.float32)


def score(weights: Weights, user_vectors: Matrix, item_vectors: Matrix) -> Matrix:
    """Return the scores (shoppers, items): affinity plus the scaled prior of the released counts."""
    prior = weights["prior_scale"][0] * weights["item_bias"]
    return np.asarray(user_vectors @ item_vectors.T + prior, dtype=np.float32)
