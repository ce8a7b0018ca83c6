"""Compiled loops over history events: what an event is to the user encoder, and sums by that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.compiling import compiled
from model.factors import Codes, Floats, Offsets
from model.features import AGE_BUCKETS, DAY, POSITION_BUCKETS


@compiled
def event_codes(
    first: int,
    last: int,
    indptr: Offsets,
    kinds: NDArray[np.int8],
    times: Offsets,
    now: Offsets,
    codes: Codes,
) -> None:
    """Write the code of each event: kind, how many newer events there are, and age + 1 (0: no clock).

    A code is the flat index into a table of shape (kinds, POSITION_BUCKETS, AGE_BUCKETS + 1).
    """
    for s in range(first, last):
        end = indptr[s + 1]
        for h in range(indptr[s], end):
            position = _log_bucket(end - 1 - h, POSITION_BUCKETS)
            age = -1 if now[s] < 0 else _log_bucket((now[s] - times[h]) // DAY, AGE_BUCKETS)
            codes[h] = (kinds[h] * POSITION_BUCKETS + position) * (AGE_BUCKETS + 1) + age + 1


@compiled
def _log_bucket(value: int, buckets: int) -> int:
    """Return floor(log2(value + 1)), at most the last bucket; as `model.features.log_bucket`."""
    bucket, rest = 0, value + 1
    while rest > 1 and bucket < buckets - 1:
        rest >>= 1
        bucket += 1
    return bucket


@compiled
def bucket_sums(
    first: int,
    last: int,
    indptr: Offsets,
    codes: Codes,
    values: Floats,
    kinds: Floats,
    positions: Floats,
    ages: Floats,
) -> None:
    """Add the values of each shopper's events to its rows of kinds, position buckets and age buckets."""
    for s in range(first, last):
        for h in range(indptr[s], indptr[s + 1]):
            upper, age = codes[h] // (AGE_BUCKETS + 1), codes[h] % (AGE_BUCKETS + 1)
            kinds[s, upper // POSITION_BUCKETS] += values[h]
            positions[s, upper % POSITION_BUCKETS] += values[h]
            if age > 0:
                ages[s, age - 1] += values[h]
