"""Server-side Adam on released gradients (Reddi et al. 2021, "Adaptive federated optimization")."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LEARNING_RATE = 0.02
RATES: Mapping[str, float] = {"context": 0.1, "prior_scale": 0.3}
"""Factors on the learning rate: the context table has by far the most noise per parameter."""
BETA_1, BETA_2, STABILISER = 0.9, 0.99, 1e-8


class Adam:
    """First and second moments of every trained parameter."""

    def __init__(self) -> None:
        """Start without history."""
        self._first: dict[str, NDArray[np.float64]] = {}
        self._second: dict[str, NDArray[np.float64]] = {}
        self._step = 0

    def apply(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Array]:
        """Return the parameters one step down the gradients; a zero gradient at the start moves nothing."""
        self._step += 1
        return {name: self._moved(name, parameters[name], gradient) for name, gradient in gradients.items()}

    def _moved(self, name: str, value: Array, gradient: NDArray[np.float64]) -> Array:
        first = BETA_1 * self._first.get(name, 0.0) + (1 - BETA_1) * gradient
        second = BETA_2 * self._second.get(name, 0.0) + (1 - BETA_2) * gradient**2
        self._first[name], self._second[name] = first, second
        direction = (first / (1 - BETA_1**self._step)) / (
            np.sqrt(second / (1 - BETA_2**self._step)) + STABILISER
        )
        return np.asarray(value - LEARNING_RATE * RATES.get(name, 1.0) * direction, dtype=np.float32)
