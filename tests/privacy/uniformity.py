"""Whether integers look like what a coordinator may see: uniform, and independent of their neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chisquare

from privacy.secagg.manifest import Unsigned


def uniformity(words: Unsigned) -> float:
    """Return a p-value, corrected for the number of tests: small where integers are not uniform modulo 2^b.

    Each byte of an integer, and of its difference to the next, is held against 256 equally likely values, and each
    bit against a fair coin. Give at least 2,000 integers: below that the chi-squared distribution is a poor likeness.
    """
    values = [*_of_bytes(words), *_of_bytes(np.diff(words)), *_of_bits(words)]
    return min(1.0, len(values) * min(values))


def _bytes_of(words: Unsigned) -> NDArray[np.uint8]:
    return np.ascontiguousarray(words).view(np.uint8).reshape(words.size, words.itemsize)


def _of_bytes(words: Unsigned) -> Iterator[float]:
    for column in _bytes_of(words).T:
        yield float(chisquare(np.bincount(column, minlength=256)).pvalue)


def _of_bits(words: Unsigned) -> Iterator[float]:
    bits = np.unpackbits(_bytes_of(words), axis=1)
    for ones in bits.sum(axis=0, dtype=np.int64):
        yield min(1.0, 2.0 * float(binom.cdf(min(ones, words.size - ones), words.size, 0.5)))
