"""Learning what each part of a score counts: one Newton step from the public constants, on released statistics.

Of a shopper's example on one surface, let x_0 be the features of the item that was taken, x_1 ... x_n those of
drawn ones, in units that are public, and p the softmax of t . x_j - log q_j (`model.fusion`; q are the chances of
the draw). The sampled softmax loss has the gradient -(x_0 - m) for m = sum p_j x_j, and the curvature
sum p_j x_j x_j^T - m m^T. Their sums over shoppers are all that leaves: 14 numbers for each surface. The step
(H + ridge)^-1 g starts at the public constants t, and the ridge grows with the noise: below it they stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.features import FUSION_FEATURES, SURFACES
from model.fusion import unlearned
from model.schema import FUSION, Weights, complement_of

LEARNED_FEATURES: tuple[str, ...] = ("affinity", "session", "complement", "prior")
"""Words searched for and listing dates are in no shopper's events: `text` and `fresh` stay as they are."""

TAUGHT_SURFACES: tuple[str, ...] = ("home", "detail", "cart")
"""Surfaces that a history has examples of."""

TAUGHT_BY: dict[str, str] = {
    "home": "home",
    "new_arrivals": "home",
    "promotion": "home",
    "detail": "detail",
    "cart": "cart",
}
"""Which examples teach a surface: new arrivals and promotions are what home is, among fewer items."""

TAUGHT_BEFORE: dict[str, tuple[str, ...]] = {
    "home": ("affinity", "prior"),
    "detail": ("prior",),
    "cart": ("prior",),
}
"""What the step fits beside the others and does not move: gradient rounds have taught it. A likelihood over the whole
catalogue would raise the prior to tell the head from the tail, and the top of a list would lose by it."""

SIDE = len(LEARNED_FEATURES)
NUMBERS = SIDE + SIDE * (SIDE + 1) // 2
"""Numbers that one surface's examples come down to: gradient, and upper triangle of the curvature."""

STEP_RIDGE = 5.0
"""Curvature, in clipped examples, that the public constants count for."""

NOISE_REACH = 2.0
"""What the ridge, and the least gradient that moves anything, grow by with the length of the noise."""

MOST = 4.0
"""A learned weight lies between 0 and this many times its constant: one step from afar may overshoot, and to prefer
what is unlike the shopper's own is never the lesson."""

PAIRS = 4096
"""Drawn pairs of items that the units of the features are taken from."""

Array = NDArray[np.float64]

_COLUMNS = [FUSION_FEATURES.index(name) for name in LEARNED_FEATURES]


def feature_units(weights: Weights, vectors: NDArray[np.float32], probabilities: Array) -> Array:
    """Return how much each learned feature differs between items, (features,), from the released model alone.

    For affinity and session that is the spread of products of two popular items, as if one were the history.
    """
    random = np.random.default_rng(0)  # public: everybody may draw the same pairs
    left, right = random.choice(len(vectors), size=(2, PAIRS), p=probabilities)
    complement = complement_of(weights)
    alike = np.einsum("pd,pd->p", vectors[left] * weights["gain"], vectors[right])
    together = np.einsum("pc,pc->p", complement[left], complement[right])
    spreads = np.array([alike.std(), alike.std(), together.std(), weights["item_bias"][left].std()])
    return np.where(spreads > 0, spreads, 1.0).astype(np.float64)


def start_of(weights: Weights, units: Array) -> Array:
    """Return the public constants of the taught surfaces in the units of the features, (taught, features)."""
    rows = [SURFACES.index(name) for name in TAUGHT_SURFACES]
    return np.asarray(unlearned(weights)[np.ix_(rows, _COLUMNS)] * units)


def learned_fusion(weights: Weights, statistics: Array, noise_std: float, units: Array) -> Weights:
    """Return the weights with the table that was learned, `fusion` (surfaces, FUSION_FEATURES).

    Args:
        weights: the released model without the table.
        statistics: (taught, NUMBERS) noisy sums, the curvature's entries off the diagonal times sqrt(2).
        noise_std: standard deviation of the noise in each number.
        units: of `feature_units`.
    """
    table = unlearned(weights)
    begin = start_of(weights, units)
    for surface, teacher in TAUGHT_BY.items():
        place = TAUGHT_SURFACES.index(teacher)
        step = np.where(_free(teacher), _step(statistics[place], noise_std), 0.0)
        moved = np.clip(begin[place] + step, 0.0, MOST * begin[place])
        moved = np.where(step != 0, moved, begin[place])
        table[SURFACES.index(surface), _COLUMNS] = moved / units
    return {**weights, FUSION: table.astype(np.float32)}


def _free(surface: str) -> NDArray[np.bool_]:
    """Return which features a surface learns, (features,)."""
    return np.array([name not in TAUGHT_BEFORE[surface] for name in LEARNED_FEATURES])


def _step(numbers: Array, noise_std: float) -> Array:
    """Return the Newton step (features,) of one surface.

    It is zero where the gradient is no longer than its noise, and along features that hardly vary in its examples.
    """
    gradient, upper = numbers[:SIDE], numbers[SIDE:]
    noise = NOISE_REACH * noise_std * float(np.sqrt(SIDE))
    if np.linalg.norm(gradient) <= noise:
        return np.zeros(SIDE)
    curvature = np.zeros((SIDE, SIDE))
    rows, columns = np.triu_indices(SIDE)
    curvature[rows, columns] = curvature[columns, rows] = upper / np.where(rows == columns, 1.0, np.sqrt(2.0))
    varies = np.diag(curvature) > noise
    values, axes = np.linalg.eigh(curvature * np.outer(varies, varies))
    along = axes.T @ (gradient * varies)
    return np.asarray(axes @ (along / (np.maximum(values, 0.0) + STEP_RIDGE + noise)) * varies)
