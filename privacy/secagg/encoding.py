"""Between numbers and integers modulo 2^b: multiples of one unit, so that a sum is exact and wraps nowhere.

A negative multiple is its two's complement. A sum of signed multiples is right as long as it lies within half the
modulus on either side, which bounding every single one by 2^(b-1) / parties guarantees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import SecureAggregationError
from privacy.secagg.manifest import LARGEST_COHORT, Unsigned

_UNSIGNED: Final[Mapping[int, np.dtype[np.unsignedinteger[Any]]]] = {32: np.dtype("<u4"), 64: np.dtype("<u8")}
_SIGNED: Final[Mapping[int, np.dtype[np.signedinteger[Any]]]] = {32: np.dtype("<i4"), 64: np.dtype("<i8")}


def encode(values: NDArray[np.float64], step: float, bits: int, parties: int = LARGEST_COHORT) -> Unsigned:
    """Return values as multiples of `step`, rounded to the nearest, modulo 2^bits.

    Args:
        parties: how many such arrays are added up at most.

    Raises:
        SecureAggregationError: a value is not finite, or so large that the sum could wrap.
    """
    units = np.rint(np.asarray(values, dtype=np.float64) / step)
    bound = math.ldexp(1.0, bits - 1) / parties
    # Not `>`: a comparison with NaN is false.
    if not (np.abs(units).max(initial=0.0) < bound):
        raise SecureAggregationError(
            f"a contribution has a value that is not finite, or at least {bound * step:.4g}, above which a sum of "
            f"{parties} could wrap modulo 2^{bits}; bound it, or take a coarser unit than {step:.4g} or 64 bits"
        )
    return units.astype(np.int64).astype(_UNSIGNED[bits])


def encode_units(units: NDArray[np.int64], bits: int, parties: int = LARGEST_COHORT) -> Unsigned:
    """Return whole multiples modulo 2^bits; raises `SecureAggregationError` where a sum of them could wrap."""
    bound = 2 ** (bits - 1) // parties
    if not (-bound < units.min(initial=0) and units.max(initial=0) < bound):
        raise SecureAggregationError(
            f"a contribution has a value of {bound} units or more, above which a sum of {parties} could wrap modulo "
            f"2^{bits}; bound it, or take a coarser unit or 64 bits"
        )
    return units.astype(_UNSIGNED[bits])


def decode_units(total: Unsigned) -> NDArray[np.int64]:
    """Return the sum as signed multiples: the representatives nearest to zero."""
    return total.view(_SIGNED[8 * total.dtype.itemsize]).astype(np.int64)


def decode(total: Unsigned, step: float) -> NDArray[np.float64]:
    """Return the sum in the unit that its terms were encoded in."""
    return decode_units(total).astype(np.float64) * step
