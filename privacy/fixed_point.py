"""Contributions on a fixed grid, so that a sum is exact and does not depend on the order of its terms.

Values are multiples of 2^-32; a double adds them without rounding up to 2^20, far above any sum of bounded
shares. Rounding moves an entry by at most 2^-33, which the noise of every plan exceeds by nine orders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = 2.0**-32


def on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values rounded to the nearest multiple of 2^-32."""
    return np.round(values / GRID) * GRID
