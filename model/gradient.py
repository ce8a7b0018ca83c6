"""Per-shopper gradients of a loss in closed form, clipped and summed but never stored.

With one user vector per shopper the gradient on the item vectors has rank two, alpha u^T + b (g*r)^T: alpha is
d loss / d logit of each candidate, b the pooling weight of the history and r = V^T alpha. Its norm is closed-form,
and the clipped sum over a cohort is added up from the factors (docs/adr/0005, docs/adr/0010). Equality with Opacus'
per-sample gradients and with the plain torch tower (`model.torch_tower`) is a test.

Logits are u.v_j + prior_scale * bias_j; the sampled softmax takes log Q_j off (Bengio & Senecal 2008; Yi et al.
2019). The losses are those of `model.losses`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.attention import attention_slopes, attention_weights
from model.errors import FeatureError, ShapeError
from model.factors import Codes, Cohort, Doubles, Factors, Public, room_for
from model.features import AGE_BUCKETS, CONTEXT_ROWS, KINDS, POSITION_BUCKETS
from model.losses import Loss
from model.sampling import Examples, check_items
from model.schema import Weights
from model.threads import in_parts, plain
from model.two_tower import context_vectors, rarity_weights

Array = NDArray[np.float32]

ITEM_VECTORS = "item_vectors"
"""Name of the gradient on the item tower's output; content and ID tables follow from it by the chain rule."""

CHUNK = 2048
"""Shoppers whose factors are in memory at once where a cohort is streamed."""


@dataclass(frozen=True)
class CohortGradient:
    """Per-shopper gradients of a cohort in factored form.

    Attributes:
        items: size of the catalogue.
        cohort, factors: the examples, and the factors of each shopper's gradient.
        small: per parameter name, (shoppers, size) gradients of the small parameters.
        codes: (shoppers, 4) rows of the context table, whose gradient is `factors.r` in each of them.
    """

    items: int
    cohort: Cohort
    factors: Factors
    small: dict[str, Array]
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of shoppers."""
        return len(self.factors.u)

    @property
    def losses(self) -> Array:
        """The loss of each shopper, (shoppers,): diagnostic, never sent."""
        return self.factors.losses

    def squared_norms(self, trained: frozenset[str]) -> NDArray[np.float64]:
        """Return each shopper's squared L2 norm over the `trained` parameters, (shoppers,)."""
        total = np.zeros(len(self))
        if ITEM_VECTORS in trained:
            from model.kernels import rank_two_squares  # numba loads only where gradients are computed

            in_parts(rank_two_squares, len(self), self.items, self.cohort, self.factors, total)
        if "context" in trained:
            total += (self.codes >= 0).sum(axis=1) * _squares(self.factors.r)
        for name in trained & self.small.keys():
            total += _squares(self.small[name])
        return total

    def add_to(self, total: dict[str, Doubles], weights: NDArray[np.float64]) -> None:
        """Add the sum over shoppers of weight times gradient to each parameter in `total`.

        Products and sums are in double precision: in single precision one shopper would move the rounding of all
        others' sum, by more than the bound on a share allows for.
        """
        from model.kernels import add_context, add_item_vectors

        w = plain(weights, np.float64)
        for name in total.keys() & self.small.keys():
            total[name] += np.einsum("s,sk->k", w, self.small[name])
        dim = self.factors.u.shape[1]
        if ITEM_VECTORS in total:
            in_parts(add_item_vectors, dim, self.cohort, self.factors, w, total[ITEM_VECTORS])
        if "context" in total:
            in_parts(add_context, dim, self.codes, self.factors.r, w, total["context"])

    def weighted_sum(self, weights: NDArray[np.float64], trained: frozenset[str]) -> dict[str, Doubles]:
        """Return the sum over shoppers of weight times gradient, for each trained parameter."""
        total = zero_sum(trained, self.items, self.factors.u.shape[1])
        self.add_to(total, weights)
        return total

    def per_shopper(self, trained: frozenset[str]) -> dict[str, Array]:
        """Return each shopper's gradient of each trained parameter, unfolded: (shoppers, size or rows, dim)."""
        each = {name: self.small[name] for name in trained & self.small.keys()}
        rows = np.arange(len(self))[:, None]
        if ITEM_VECTORS in trained:
            cohort, factors = self.cohort, self.factors
            owners = np.repeat(np.arange(len(self)), np.diff(cohort.indptr))
            alpha, beta = np.zeros((2, len(self), self.items), np.float32)
            _scatter(alpha, rows, cohort.targets, factors.errors_t)
            _scatter(alpha, rows, cohort.negatives, factors.errors_n)
            _scatter(beta, owners, cohort.items, factors.b)
            each[ITEM_VECTORS] = alpha[..., None] * factors.u[:, None] + beta[..., None] * factors.gr[:, None]
        if "context" in trained:
            picked = np.zeros((len(self), CONTEXT_ROWS), np.float32)
            _scatter(picked, rows, self.codes, np.ones(self.codes.shape, np.float32))
            each["context"] = picked[..., None] * self.factors.r[:, None]
        return each


def zero_sum(trained: Iterable[str], items: int, dim: int) -> dict[str, Doubles]:
    """Return an empty sum of gradients of the `trained` parameters, for `CohortGradient.add_to`."""
    shapes: dict[str, tuple[int, ...]] = {
        ITEM_VECTORS: (items, dim),
        "gain": (dim,),
        "prior_scale": (1,),
        "kind_weight": (len(KINDS),),
        "position_weight": (POSITION_BUCKETS,),
        "age_weight": (AGE_BUCKETS,),
        "rarity": (1,),
        "context": (CONTEXT_ROWS, dim),
        "attention": (dim,),
    }
    return {name: np.zeros(shapes[name]) for name in sorted(shapes.keys() & set(trained))}


def cohort_gradient(
    weights: Weights,
    vectors: Array,
    examples: Examples,
    log_q: NDArray[np.float64],
    loss: Loss = Loss.SAMPLED_SOFTMAX,
) -> CohortGradient:
    """Return the factored gradients of every shopper's loss.

    Args:
        weights: the user tower's parameters, `prior_scale` and `item_bias` (items,).
        vectors: (items, dim) item vectors of the catalogue that the examples index.
        examples: one per shopper; a shopper without targets has a zero gradient.
        log_q: (items,) log sampling probability of each item.
        loss: what the shoppers' targets and negatives are asked for.

    Raises:
        FeatureError: the examples do not fit the catalogue.
        ShapeError: vectors, biases and probabilities are of different catalogues.
    """
    from model.kernels import gradients

    check_items(examples.histories, len(vectors))
    _check_candidates(examples, len(vectors))
    _check_lengths(weights["item_bias"], vectors, log_q)
    public = Public(
        plain(vectors, np.float32),
        plain(weights["gain"], np.float32),
        float(weights["prior_scale"][0]),
        plain(weights["item_bias"], np.float32),
        plain(log_q if loss.corrects_sampling else np.zeros_like(log_q), np.float64),
        loss.code,
    )
    codes = _event_codes(examples)
    cohort = _cohort(weights, public.vectors, examples, codes)
    factors = room_for(cohort)
    in_parts(gradients, len(examples), public, cohort, factors)
    small = {"gain": factors.r * factors.pooled, "prior_scale": factors.prior[:, None]}
    small.update(_by_bucket(cohort, codes, factors.along))
    if "attention" in weights:
        small["attention"] = attention_slopes(public.vectors, cohort, factors)
    small["rarity"] = _rarity_slopes(weights["item_bias"], cohort, factors.along)
    return CohortGradient(len(vectors), cohort, factors, small, plain(examples.moments.codes, np.int64))


def _check_candidates(examples: Examples, catalogue: int) -> None:
    """Refuse candidates that the catalogue does not have."""
    for candidates in (examples.targets, examples.negatives):
        largest = int(candidates.max(initial=-1))
        if largest >= catalogue:
            raise FeatureError(
                f"an example has candidate {largest} and the catalogue ends at {catalogue - 1}: draw the examples "
                "with the probabilities of this catalogue"
            )


def _check_lengths(bias: Array, vectors: Array, log_q: NDArray[np.float64]) -> None:
    """Refuse item parameters of different catalogues."""
    if not len(bias) == len(vectors) == len(log_q):
        raise ShapeError(
            f"{len(vectors)} item vectors, {len(bias)} biases and {len(log_q)} probabilities do not belong together"
        )


def _cohort(weights: Weights, vectors: Array, examples: Examples, codes: Codes) -> Cohort:
    """Return the examples as the kernels read them."""
    a = _event_table(weights)[codes] * rarity_weights(weights)[examples.histories.items]
    return Cohort(
        plain(examples.histories.indptr, np.int64),
        plain(examples.histories.items, np.int32),
        a * attention_weights(weights, vectors, examples.histories),
        context_vectors(weights, examples.moments),
        plain(examples.targets, np.int32),
        plain(examples.negatives, np.int32),
    )


def _event_table(weights: Weights) -> Array:
    """Return the weight of an event of each code but for its item: `model.two_tower.event_weights`, once per code."""
    ages = np.append(np.float32(0.0), weights["age_weight"])
    logits = weights["kind_weight"][:, None, None] + weights["position_weight"][:, None] + ages
    return np.asarray(np.exp(np.clip(logits, -10.0, 10.0)), dtype=np.float32).ravel()


def _event_codes(examples: Examples) -> Codes:
    """Return what each event is to the user encoder, (events,); see `model.kernels_events`."""
    from model.kernels_events import event_codes

    histories = examples.histories
    codes = np.empty(len(histories.items), np.int16)
    arrays = (histories.indptr, np.int64), (histories.kinds, np.int8), (histories.times, np.int64)
    now = plain(examples.moments.times, np.int64)
    in_parts(event_codes, len(examples), *(plain(array, kind) for array, kind in arrays), now, codes)
    return codes


def _by_bucket(cohort: Cohort, codes: Codes, along: Array) -> dict[str, Array]:
    """Return the gradients on kind, position and age weights, (shoppers, buckets) each."""
    from model.kernels_events import bucket_sums

    sizes = {"kind_weight": len(KINDS), "position_weight": POSITION_BUCKETS, "age_weight": AGE_BUCKETS}
    shoppers = len(cohort.context)
    sums = {name: np.zeros((shoppers, size), np.float32) for name, size in sizes.items()}
    in_parts(bucket_sums, shoppers, cohort.indptr, codes, along, *sums.values())
    return sums


def _rarity_slopes(bias: Array, cohort: Cohort, along: Array) -> Array:
    """Return the gradient on the rarity exponent, (shoppers, 1): log a of an event falls by the bias of its item.

    Added up event by event: a sum in blocks would be rounded otherwise beside other shoppers.
    """
    shoppers = len(cohort.context)
    owners = np.repeat(np.arange(shoppers), np.diff(cohort.indptr))
    sums = np.bincount(owners, -along * bias[cohort.items], minlength=shoppers)
    return sums[:, None].astype(np.float32)


def _scatter(table: Array, rows: NDArray[np.int64], columns: NDArray[Any], values: Array) -> None:
    """Add values at (row, column) of the table; column -1 is left out."""
    rows = np.broadcast_to(rows, columns.shape)
    real = columns >= 0
    np.add.at(table, (rows[real], columns[real]), values[real])


def _squares(rows: Array) -> NDArray[np.float64]:
    """Return the squared length of each row, in double precision."""
    return np.asarray(np.square(rows, dtype=np.float64).sum(axis=1))
