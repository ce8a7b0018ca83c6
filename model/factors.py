"""Per-shopper gradients as factors: plain arrays that the compiled kernels fill and add up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Items = NDArray[np.int32]
Codes = NDArray[np.int16]
Offsets = NDArray[np.int64]


class Public(NamedTuple):
    """What every shopper's gradient reads: (items, dim) vectors, (dim,) gain, bias and log q (items,).

    `loss` is the code of a `model.losses.Loss`; log q is 0 where it compares raw scores.
    """

    vectors: Floats
    gain: Floats
    prior_scale: float
    bias: Floats
    log_q: Doubles
    loss: int


class Cohort(NamedTuple):
    """The examples of some shoppers, and what the user encoder reads from them.

    Attributes:
        indptr, items: histories in compressed rows.
        a: (events,) positive weight of each event.
        context: (shoppers, dim) the part of the user vector that comes from no history.
        targets, negatives: (shoppers, candidates) item indices, -1 where absent.
    """

    indptr: Offsets
    items: Items
    a: Floats
    context: Floats
    targets: Items
    negatives: Items


class Factors(NamedTuple):
    """The gradient of each shopper's loss in factors.

    The gradient on the item vectors is alpha u^T + b gr^T, where alpha holds the errors of the candidates.

    Attributes:
        b: (events,) pooling weight of each event.
        errors_t, errors_n: d loss / d logit of each target and negative, 0 where absent.
        pooled, u: (shoppers, dim) pooled history and user vector.
        r, gr: (shoppers, dim) gradient on the user vector, and the same times the gain.
        prior: (shoppers,) gradient on the prior scale.
        along: (events,) d loss / d log a of each event.
        losses: (shoppers,) diagnostic, never sent.
    """

    b: Floats
    errors_t: Floats
    errors_n: Floats
    pooled: Floats
    u: Floats
    r: Floats
    gr: Floats
    prior: Floats
    along: Floats
    losses: Floats


def room_for(cohort: Cohort) -> Factors:
    """Return uninitialised factors of the right shapes."""
    shoppers, events, wide = len(cohort.context), len(cohort.items), cohort.context.shape

    def empty(*shape: int) -> Floats:
        return np.empty(shape, np.float32)

    return Factors(
        b=empty(events),
        errors_t=empty(*cohort.targets.shape),
        errors_n=empty(*cohort.negatives.shape),
        pooled=empty(*wide),
        u=empty(*wide),
        r=empty(*wide),
        gr=empty(*wide),
        prior=empty(shoppers),
        along=empty(events),
        losses=empty(shoppers),
    )
