"""Compiled losses: logits of one shopper's candidates to the loss and d loss / d logits (`model.losses`).

Absent targets are -1 and absent negatives have logit -inf. Each loss writes every error, 0 where a candidate is
absent, and may use up `logits_n`. NaN stays NaN, so that clipping refuses the shopper.
"""

from __future__ import annotations

from math import exp, log, log1p

import numpy as np

from model.compiling import compiled
from model.factors import Doubles, Floats, Items
from model.losses import Loss

LOWEST = -1e30
SMALLEST = 1e-300
BPR, FOCAL_BCE = Loss.BPR.code, Loss.FOCAL_BCE.code


@compiled
def loss_errors(
    code: int, targets: Items, logits_t: Doubles, logits_n: Doubles, errors_t: Floats, errors_n: Floats
) -> float:
    """Write the errors of the loss of this code; return the loss."""
    if code == BPR:
        return pairwise_errors(targets, logits_t, logits_n, errors_t, errors_n)
    if code == FOCAL_BCE:
        return focal_errors(targets, logits_t, logits_n, errors_t, errors_n)
    return softmax_errors(targets, logits_t, logits_n, errors_t, errors_n)


@compiled
def softmax_errors(
    targets: Items, logits_t: Doubles, logits_n: Doubles, errors_t: Floats, errors_n: Floats
) -> float:
    """Write the error of the sampled softmax of each target against the negatives; return the mean loss.

    In terms of the log odds of a target against all negatives, so that nothing cancels or overflows.
    """
    top, odds, real = LOWEST, 0.0, _count(targets)
    for c in range(len(logits_n)):
        if not logits_n[c] <= top:
            top = logits_n[c]
    for c in range(len(logits_n)):
        logits_n[c] = exp(logits_n[c] - top)
        odds += logits_n[c]
    if odds < SMALLEST:
        odds = SMALLEST
    rest = top + log(odds)
    missed, loss = 0.0, 0.0
    for c in range(len(targets)):
        errors_t[c] = 0.0
        if targets[c] >= 0:
            miss, lost = _missed(logits_t[c] - rest)
            errors_t[c] = -miss / real
            missed += miss / real
            loss += lost / real
    for c in range(len(logits_n)):
        errors_n[c] = logits_n[c] * (missed / odds)
    return loss


@compiled
def pairwise_errors(
    targets: Items, logits_t: Doubles, logits_n: Doubles, errors_t: Floats, errors_n: Floats
) -> float:
    """Write the error of the pairwise logistic loss of each target against each negative; return the mean."""
    pairs, loss = _count(targets) * _present(logits_n), 0.0
    errors_n[:] = 0.0
    for c in range(len(targets)):
        missed = 0.0
        if targets[c] >= 0:
            for n in range(len(logits_n)):
                if logits_n[n] != -np.inf:
                    miss, lost = _missed(logits_t[c] - logits_n[n])
                    missed += miss
                    errors_n[n] += miss / pairs
                    loss += lost / pairs
        errors_t[c] = -missed / pairs if pairs else 0.0
    return loss


@compiled
def focal_errors(
    targets: Items, logits_t: Doubles, logits_n: Doubles, errors_t: Floats, errors_n: Floats
) -> float:
    """Write the error of the focal loss: each target wanted, each negative not; return the loss."""
    real, loss = _count(targets), 0.0
    for c in range(len(targets)):
        errors_t[c] = 0.0
        if targets[c] >= 0:
            slope, lost = _focal(logits_t[c])
            errors_t[c] = slope / real
            loss += lost / real
    for c in range(len(logits_n)):
        errors_n[c] = 0.0
        if real > 0 and logits_n[c] != -np.inf:
            slope, lost = _focal(-logits_n[c])
            errors_n[c] = -slope
            loss += lost
    return loss


@compiled
def _focal(x: float) -> tuple[float, float]:
    """Return slope and value of (1 - p)^2 (-log p), p = sigmoid(x)."""
    miss, lost = _missed(x)
    return -miss * miss * (miss + 2.0 * (1.0 - miss) * lost), miss * miss * lost


@compiled
def _missed(x: float) -> tuple[float, float]:
    """Return 1 - sigmoid(x) and -log sigmoid(x), without cancellation."""
    small = exp(-abs(x))
    return (small if x > 0 else 1.0) / (1.0 + small), log1p(small) - (x if x < 0 else 0.0)


@compiled
def _count(items: Items) -> int:
    """Return how many items there are; -1 is none."""
    real = 0
    for c in range(len(items)):
        real += items[c] >= 0
    return real


@compiled
def _present(logits: Doubles) -> int:
    """Return how many candidates there are; a logit of -inf is none."""
    real = 0
    for c in range(len(logits)):
        real += logits[c] != -np.inf
    return real
