"""Per-shopper gradients of the sampled softmax in closed form, clipped and summed but never stored.

With one user vector per shopper the gradient on the item vectors has rank two, alpha u^T + beta (g*r)^T:
alpha is the softmax error on candidates, beta the pooling weight of the history and r = V^T alpha. Its norm is
closed-form and the clipped sum over a cohort is two sparse products (docs/adr/0005). Equality with Opacus'
per-sample gradients is a test.

Loss of a shopper: mean over targets p of -log softmax over {p} and the shopper's negatives, with logits
u.v_j + prior_scale * bias_j - log Q_j (Bengio & Senecal 2008; Yi et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import special

from model.features import (
    AGE_BUCKETS,
    CONTEXT_ROWS,
    KINDS,
    POSITION_BUCKETS,
    log_bucket,
    positions_from_end,
)
from model.sampling import Examples
from model.schema import Weights
from model.two_tower import age_buckets, context_vectors, pooling

Array = NDArray[np.float32]

ITEM_VECTORS = "item_vectors"
"""Name of the gradient on the item tower's output; content and ID tables follow from it by the chain rule."""


@dataclass(frozen=True)
class CohortGradient:
    """Per-shopper gradients of a cohort in factored form.

    Attributes:
        alpha, beta: (shoppers, items) sparse factors; u, gr: (shoppers, dim) dense factors.
        small: per parameter name, (shoppers, size) gradients of the small parameters.
        codes: (shoppers, 4) rows of the context table; r: (shoppers, dim) gradient on the user vector.
        losses: (shoppers,) loss of each shopper: diagnostic, never sent.
    """

    alpha: sp.csr_matrix
    beta: sp.csr_matrix
    u: Array
    gr: Array
    small: dict[str, Array]
    codes: NDArray[np.int64]
    r: Array
    losses: Array

    def squared_norms(self, trained: frozenset[str]) -> NDArray[np.float64]:
        """Return each shopper's squared L2 norm over the `trained` parameters, (shoppers,)."""
        total = np.zeros(len(self.u))
        if ITEM_VECTORS in trained:
            total += self._rank_two_squares()
        if "context" in trained:
            total += (self.codes >= 0).sum(axis=1) * np.square(self.r, dtype=np.float64).sum(axis=1)
        for name in trained & self.small.keys():
            total += np.square(self.small[name], dtype=np.float64).sum(axis=1)
        return total

    def _rank_two_squares(self) -> NDArray[np.float64]:
        """Return |a u^T + b gr^T|^2 = |a|^2|u|^2 + 2 (a.b)(u.gr) + |b|^2|gr|^2 for each shopper."""
        a, b, u, gr = self.alpha, self.beta, self.u.astype(np.float64), self.gr.astype(np.float64)
        squares = _row_dots(a, a) * (u * u).sum(1) + _row_dots(b, b) * (gr * gr).sum(1)
        return np.asarray(squares + 2.0 * _row_dots(a, b) * (u * gr).sum(1)).clip(min=0.0)

    def per_shopper(self, trained: frozenset[str]) -> dict[str, Array]:
        """Return each shopper's gradient of each trained parameter, unfolded: (shoppers, size or rows, dim)."""
        each = {name: self.small[name] for name in trained & self.small.keys()}
        if ITEM_VECTORS in trained:
            each[ITEM_VECTORS] = _outer(self.alpha, self.u) + _outer(self.beta, self.gr)
        if "context" in trained:
            each["context"] = _unfolded_context(self.codes, self.r)
        return each

    def weighted_sum(self, weights: NDArray[np.float64], trained: frozenset[str]) -> dict[str, Array]:
        """Return the sum over shoppers of weight times gradient, for each trained parameter."""
        w = weights.astype(np.float32)[:, None]
        total: dict[str, Array] = {
            name: (w * self.small[name]).sum(axis=0) for name in trained & self.small.keys()
        }
        if ITEM_VECTORS in trained:
            total[ITEM_VECTORS] = self.alpha.T @ (w * self.u) + self.beta.T @ (w * self.gr)
        if "context" in trained:
            total["context"] = _scatter_context(self.codes, w * self.r)
        return {name: np.asarray(value, dtype=np.float32) for name, value in total.items()}


def cohort_gradient(
    weights: Weights, vectors: Array, examples: Examples, log_q: NDArray[np.float64]
) -> CohortGradient:
    """Return the factored gradients of every shopper's loss.

    Args:
        weights: the user tower's parameters, `prior_scale` and `item_bias` (items,).
        vectors: (items, dim) item vectors of the catalogue that the examples index.
        examples: one per shopper; a shopper without targets has a zero gradient.
        log_q: (items,) log sampling probability of each item.
    """
    pool = pooling(weights, examples.histories, examples.moments, len(vectors))
    pooled = np.asarray(pool @ vectors, dtype=np.float32)
    u = np.asarray(weights["gain"] * pooled + context_vectors(weights, examples.moments), dtype=np.float32)
    alpha, losses = _softmax_errors(weights, vectors, u, examples, log_q)
    r = np.asarray(alpha @ vectors, dtype=np.float32)
    gr = np.asarray(weights["gain"] * r, dtype=np.float32)
    small = {"gain": r * pooled, "prior_scale": (alpha @ weights["item_bias"])[:, None]}
    small.update(_event_weight_gradients(examples, pool, pooled, vectors, gr))
    return CohortGradient(alpha, pool, u, gr, small, examples.moments.codes, r, losses)


def _softmax_errors(
    weights: Weights, vectors: Array, u: Array, examples: Examples, log_q: NDArray[np.float64]
) -> tuple[sp.csr_matrix, Array]:
    """Return the softmax error of every candidate, (shoppers, items) sparse, and the losses."""
    prior = weights["prior_scale"][0] * weights["item_bias"] - log_q
    logits_p = _logits(u, vectors, prior, examples.targets)
    logits_n = _logits(u, vectors, prior, examples.negatives)
    top = np.maximum(logits_n.max(axis=1, keepdims=True), -1e30)
    exp_n = np.exp(logits_n - top)
    rest = top + np.log(np.maximum(exp_n.sum(axis=1, keepdims=True), 1e-300))
    real = examples.targets >= 0
    share = real / np.maximum(real.sum(axis=1, keepdims=True), 1)
    log_odds = np.where(real, logits_p - rest, 0.0)
    missed = special.expit(-log_odds)  # 1 - softmax of each target against the negatives
    error_p = -share * missed
    error_n = np.exp(logits_n - rest) * (share * missed).sum(axis=1, keepdims=True)
    losses = (share * np.logaddexp(0.0, -log_odds)).sum(axis=1)
    candidates = np.concatenate([examples.targets, examples.negatives], axis=1)
    errors = np.concatenate([error_p, error_n], axis=1)
    return _sparse(candidates, errors, len(vectors)), losses.astype(np.float32)


def _logits(
    u: Array, vectors: Array, prior: NDArray[np.float64], items: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return logits (shoppers, candidates), -inf where the candidate is absent (-1)."""
    found = np.einsum("sd,scd->sc", u, vectors[items], optimize=True).astype(np.float64) + prior[items]
    return np.where(items < 0, -np.inf, found)


def _sparse(items: NDArray[np.int64], values: NDArray[np.float64], count: int) -> sp.csr_matrix:
    """Return a sparse matrix (shoppers, count) from padded item lists, repeated items added up."""
    rows, places = np.nonzero(items >= 0)
    data = values[rows, places].astype(np.float32)
    matrix = sp.csr_matrix((data, (rows, items[rows, places])), shape=(len(items), count))
    matrix.sum_duplicates()
    return matrix


def _event_weight_gradients(
    examples: Examples, pool: sp.csr_matrix, pooled: Array, vectors: Array, gr: Array
) -> dict[str, Array]:
    """Return the gradients on kind, position and age weights: d u / d log a_h, summed by bucket."""
    histories = examples.histories
    rows = histories.rows
    lengths = np.sqrt(np.maximum(np.asarray(pool.sum(axis=1)).ravel(), 1e-12))
    share = pool.data / lengths[rows] ** 2  # a_h / sum of a, since pool holds a_h / sqrt(sum of a)
    along = np.einsum("ed,ed->e", vectors[histories.items], gr[rows]) * pool.data
    per_event = along - 0.5 * share * (pooled * gr).sum(axis=1)[rows]
    positions = log_bucket(positions_from_end(histories.indptr), POSITION_BUCKETS)
    buckets = {
        "kind_weight": (histories.kinds.astype(np.int64), len(KINDS)),
        "position_weight": (positions, POSITION_BUCKETS),
        "age_weight": (age_buckets(histories, examples.moments), AGE_BUCKETS),
    }
    return {name: _by_bucket(rows, *bucket, per_event, len(histories)) for name, bucket in buckets.items()}


def _by_bucket(
    rows: NDArray[np.int64], buckets: NDArray[np.int64], count: int, values: Array, shoppers: int
) -> Array:
    """Return values summed by (shopper, bucket), (shoppers, count); bucket -1 is left out."""
    known = buckets >= 0
    flat = np.bincount(
        rows[known] * count + buckets[known], weights=values[known], minlength=shoppers * count
    )
    return flat.reshape(shoppers, count).astype(np.float32)


def _scatter_context(codes: NDArray[np.int64], values: Array) -> Array:
    """Return the context table's gradient, (CONTEXT_ROWS, dim)."""
    rows, places = np.nonzero(codes >= 0)
    pick = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (codes[rows, places], rows)), shape=(CONTEXT_ROWS, len(values))
    )
    return np.asarray(pick @ values, dtype=np.float32)


def _unfolded_context(codes: NDArray[np.int64], values: Array) -> Array:
    """Return the context table's gradient of each shopper, (shoppers, CONTEXT_ROWS, dim)."""
    table = np.zeros((len(codes), CONTEXT_ROWS, values.shape[1]), dtype=np.float32)
    rows, places = np.nonzero(codes >= 0)
    np.add.at(table, (rows, codes[rows, places]), values[rows])
    return table


def _outer(factor: sp.csr_matrix, vectors: Array) -> Array:
    """Return the outer product of matching rows, (shoppers, items, dim)."""
    return np.asarray(factor.toarray()[:, :, None] * vectors[:, None, :], dtype=np.float32)


def _row_dots(a: sp.csr_matrix, b: sp.csr_matrix) -> NDArray[np.float64]:
    """Return the dot product of matching rows, (rows,) in double precision."""
    return np.asarray(a.astype(np.float64).multiply(b.astype(np.float64)).sum(axis=1)).ravel()
