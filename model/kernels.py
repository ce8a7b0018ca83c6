"""Compiled loops of the per-shopper gradient, with no Python object per shopper (docs/adr/0010).

Each kernel is serial, works on a range and lets go of the interpreter lock, so that `model.threads` may run it on
parts of a cohort at once; what it writes for one shopper depends on that shopper alone. The loss enters only
through `loss_errors`, d loss / d logits; the user encoder only through the event weights `Cohort.a`.

Limits are ifs and not max() or min(): a NaN must stay NaN, so that clipping refuses the shopper.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from model.compiling import compiled
from model.factors import Cohort, Doubles, Factors, Floats, Items, Offsets, Public
from model.kernels_losses import loss_errors


@compiled
def gradients(first: int, last: int, public: Public, cohort: Cohort, out: Factors) -> None:
    """Write the factored gradient of each shopper's loss."""
    vectors = public.vectors
    logits_t, logits_n = np.empty(cohort.targets.shape[1]), np.empty(cohort.negatives.shape[1])
    for s in range(first, last):
        begin, end = cohort.indptr[s], cohort.indptr[s + 1]
        history, a, b = cohort.items[begin:end], cohort.a[begin:end], out.b[begin:end]
        targets, negatives = cohort.targets[s], cohort.negatives[s]
        errors_t, errors_n = out.errors_t[s], out.errors_n[s]
        pooled, u, r, gr = out.pooled[s], out.u[s], out.r[s], out.gr[s]
        total = _normalise(a, b)
        _clear(pooled)
        _add_rows(history, b, vectors, pooled)
        for d in range(len(u)):
            u[d] = public.gain[d] * pooled[d] + cohort.context[s, d]
        _logits(targets, public, u, logits_t)
        _logits(negatives, public, u, logits_n)
        out.losses[s] = loss_errors(public.loss, targets, logits_t, logits_n, errors_t, errors_n)
        _clear(r)
        _add_rows(targets, errors_t, vectors, r)
        _add_rows(negatives, errors_n, vectors, r)
        for d in range(len(r)):
            gr[d] = public.gain[d] * r[d]
        out.prior[s] = _prior_slope(targets, errors_t, public) + _prior_slope(negatives, errors_n, public)
        half = np.float32(0.5) * _dot(out.pooled, s, gr) / total
        for h in range(len(history)):  # through the pooled sum, and through its normaliser
            out.along[begin + h] = b[h] * _dot(vectors, history[h], gr) - half * a[h]


@compiled
def _normalise(a: Floats, b: Floats) -> np.float32:
    """Write b = a / sqrt(sum of a) and return the sum, 1 where there are no events."""
    total = np.float32(0.0)
    for h in range(len(a)):
        total += a[h]
    if len(a) == 0:
        total = np.float32(1.0)
    scale = np.float32(1.0 / sqrt(total))
    for h in range(len(a)):
        b[h] = a[h] * scale
    return total


@compiled
def _clear(values: Floats) -> None:
    for d in range(len(values)):
        values[d] = 0.0


@compiled
def _dot(vectors: Floats, row: int, x: Floats) -> np.float32:
    """Return the dot product of one row with x."""
    total = np.float32(0.0)
    for d in range(len(x)):
        total += vectors[row, d] * x[d]
    return total


@compiled
def _add_rows(items: Items, weights: Floats, vectors: Floats, total: Floats) -> None:
    """Add weight times item vector of every item to `total` (dim,); -1 is no item."""
    for c in range(len(items)):
        item, weight = (
            items[c],
            weights[c],
        )  # in registers: `total` might overlap the arrays, for all LLVM knows
        if item >= 0:
            for d in range(len(total)):
                total[d] += weight * vectors[item, d]


@compiled
def _logits(items: Items, public: Public, u: Floats, logits: Doubles) -> None:
    """Write the logits of one shopper's candidates, -inf where absent."""
    for c in range(len(items)):
        item = items[c]
        logits[c] = -np.inf
        if item >= 0:
            prior = public.prior_scale * public.bias[item] - public.log_q[item]
            logits[c] = _dot(public.vectors, item, u) + prior


@compiled
def _prior_slope(items: Items, errors: Floats, public: Public) -> np.float32:
    """Return what candidates add to the gradient on the prior scale."""
    slope = np.float32(0.0)
    for c in range(len(items)):
        if items[c] >= 0:
            slope += errors[c] * public.bias[items[c]]
    return slope


@compiled
def rank_two_squares(
    first: int, last: int, items: int, cohort: Cohort, out: Factors, squares: Doubles
) -> None:
    """Write |alpha u^T + b gr^T|^2 of each shopper, with repeated items added up.

    `mass` holds a factor of one shopper by item while it is needed: sum_i (sum_h x_h)^2 = sum_h x_h mass_h.
    """
    mass = np.zeros(items)
    for s in range(first, last):
        history, b = _history(s, cohort.indptr, cohort.items, out.b)
        targets, negatives = cohort.targets[s], cohort.negatives[s]
        errors_t, errors_n = out.errors_t[s], out.errors_n[s]
        _deposit(history, b, mass)
        bb = _collected(history, b, mass)
        ab = _collected(targets, errors_t, mass) + _collected(negatives, errors_n, mass)
        _withdraw(history, mass)
        _deposit(targets, errors_t, mass)
        _deposit(negatives, errors_n, mass)
        aa = _collected(targets, errors_t, mass) + _collected(negatives, errors_n, mass)
        _withdraw(targets, mass)
        _withdraw(negatives, mass)
        uu, ug, gg = 0.0, 0.0, 0.0
        for d in range(out.u.shape[1]):
            u, g = np.float64(out.u[s, d]), np.float64(out.gr[s, d])
            uu, ug, gg = uu + u * u, ug + u * g, gg + g * g
        square = aa * uu + 2.0 * ab * ug + bb * gg
        squares[s] = 0.0 if square < 0.0 else square


@compiled
def _history(s: int, indptr: Offsets, items: Items, values: Floats) -> tuple[Items, Floats]:
    """Return the items of one shopper's events and their values."""
    return items[indptr[s] : indptr[s + 1]], values[indptr[s] : indptr[s + 1]]


@compiled
def _deposit(items: Items, values: Floats, mass: Doubles) -> None:
    for c in range(len(items)):
        if items[c] >= 0:
            mass[items[c]] += values[c]


@compiled
def _collected(items: Items, values: Floats, mass: Doubles) -> float:
    total = 0.0
    for c in range(len(items)):
        if items[c] >= 0:
            total += values[c] * mass[items[c]]
    return total


@compiled
def _withdraw(items: Items, mass: Doubles) -> None:
    for c in range(len(items)):
        if items[c] >= 0:
            mass[items[c]] = 0.0


@compiled
def add_item_vectors(
    first: int, last: int, cohort: Cohort, factors: Factors, weights: Doubles, total: Doubles
) -> None:
    """Add weight times gradient of every shopper to the columns first:last of `total` (items, dim).

    The range is of columns: every thread has entries of its own and adds them up in the shoppers' order, so that
    the sum does not depend on the number of threads.
    """
    for s in range(len(weights)):
        history, b = _history(s, cohort.indptr, cohort.items, factors.b)
        _spread(first, last, history, b, weights[s], factors.gr, s, total)
        _spread(first, last, cohort.targets[s], factors.errors_t[s], weights[s], factors.u, s, total)
        _spread(first, last, cohort.negatives[s], factors.errors_n[s], weights[s], factors.u, s, total)


@compiled
def _spread(
    first: int, last: int, items: Items, values: Floats, weight: float, rows: Floats, s: int, total: Doubles
) -> None:
    """Add weight times value times row s of `rows` to the rows `items` of the sum."""
    for c in range(len(items)):
        item, scale = items[c], weight * values[c]
        if item >= 0:
            for d in range(np.uint64(first), np.uint64(last)):  # unsigned: no check for a negative index
                total[item, d] += scale * rows[s, d]


@compiled
def add_context(
    first: int, last: int, codes: Offsets, rows: Floats, weights: Doubles, total: Doubles
) -> None:
    """Add weight times row of every shopper to the columns first:last of its rows of the context table."""
    for s in range(len(weights)):
        for place in range(codes.shape[1]):
            code, weight = codes[s, place], weights[s]
            if code >= 0:
                for d in range(np.uint64(first), np.uint64(last)):
                    total[code, d] += weight * rows[s, d]
