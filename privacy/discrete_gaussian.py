"""Gaussian noise on the integers: exact where arithmetic on doubles cannot be, and its sums stay on the integers.

A draw of the base deviation is the inversion of a table of its distribution function, in integers of 192 bits: 64
random bits decide all but one draw in 2^48, and further bits decide that one. Wider noise is a sum of draws with
whole coefficients (Micciancio & Walter 2017, "Gaussian Sampling over the Integers"): where each coefficient is at
most half the deviation of the sum before it, the sum is a discrete Gaussian up to a factor 1 +- 2^-112, from
2 exp(-8 pi^2).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from itertools import accumulate
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import PrivacyError

Words = Callable[[int], NDArray[np.uint64]]
"""Where random bits come from: `words(n)` returns n independent uniform words of 64 bits."""
Integers = NDArray[np.int64]

BASE: Final = 1448
"""Deviation of the base: with its largest first coefficient, half of it, the sum has one of 2^20."""
REACH: Final = 17
"""Deviations that the table covers: beyond lie 2^-208 of the distribution."""
BITS: Final = 192
"""Of the table's entries."""
WORK: Final = 320
"""Bits behind the point while the table is made."""
GUIDE: Final = 16
"""Leading bits of a word that look up where in the table to begin."""
CHUNK: Final = 2**17
"""Draws at a time, so that their arrays stay in the cache."""


def system_words(count: int) -> NDArray[np.uint64]:
    """Return words of the operating system's entropy: what production uses."""
    return np.frombuffer(os.urandom(8 * count), dtype="<u8")


def seeded_words(seed: int) -> Words:
    """Return a repeatable source for tests and simulation; who knows the seed can take the noise away."""
    return np.random.default_rng(seed).bit_generator.random_raw


def coefficients(multiple: int) -> tuple[int, ...]:
    """Return whole numbers whose squares add up to `multiple`, or to at most 1 + 1 / (8 sqrt multiple) times it.

    Each is at most half the deviation of the sum before it, and the first is 1, so that no integer is left out.
    """
    if multiple < 1:
        raise PrivacyError(f"noise of {multiple} times the base variance was asked for; it takes at least 1")
    found, total = [1], 1
    while (rest := multiple - total) > 0:
        last = rest <= multiple >> 8
        root = isqrt(rest - 1) + 1 if last else isqrt(rest)
        found.append(min(root, BASE * isqrt(total) // 2))
        total += found[-1] ** 2
    return tuple(found)


def draw(count: int, multiple: int, words: Words = system_words) -> Integers:
    """Return independent discrete Gaussians of variance `multiple` BASE^2 (`coefficients` says how exactly)."""
    table, total = base_table(), np.empty(count, dtype=np.int64)
    factors = coefficients(multiple)
    for start in range(0, count, CHUNK):
        part = total[start : start + CHUNK]
        part[:] = 0
        for factor in factors:
            part += factor * table.draw(len(part), words)
    return total


@dataclass(frozen=True, kw_only=True)
class Table:
    """The distribution function of the base.

    Attributes:
        whole: entry i is the chance of a value up to i - REACH BASE, times 2^BITS.
        leading: (n,) the first 64 bits of each.
        begin: for each pattern of a word's leading bits the entries that lie below all such words.
        crowded: where more than one entry shares these bits.
    """

    whole: list[int]
    leading: NDArray[np.uint64]
    begin: NDArray[np.int64]
    crowded: NDArray[np.bool_]

    def draw(self, count: int, words: Words) -> Integers:
        """Return independent draws of the base."""
        uniform = words(count)
        pattern = uniform >> np.uint64(64 - GUIDE)
        index = self.begin[pattern]
        index += self.leading[np.minimum(index, len(self.leading) - 1)] <= uniform
        among = np.flatnonzero(self.crowded[pattern])
        index[among] = np.searchsorted(self.leading, uniform[among], side="right")
        for tie in np.flatnonzero(self.leading[index - 1] == uniform):
            index[tie] = self._resolved(int(uniform[tie]), words)
        return np.asarray(index - REACH * BASE)

    def _resolved(self, leading: int, words: Words) -> int:
        """Return the index of a draw whose first word is an entry's: further words decide."""
        exact = leading
        for word in words(BITS // 64 - 1):
            exact = exact << 64 | int(word)
        return bisect_right(self.whole, exact)


@cache
def base_table() -> Table:
    """Return the table of the base; it takes a moment the first time."""
    weights = _weights()
    sums = list(accumulate([*reversed(weights[1:]), *weights]))
    whole = [(part << BITS) // sums[-1] for part in sums[:-1]]
    leading = np.array([entry >> (BITS - 64) for entry in whole], dtype=np.uint64)
    starts = np.arange(2**GUIDE, dtype=np.uint64) << np.uint64(64 - GUIDE)
    begin = np.searchsorted(leading, starts)
    crowded = np.diff(begin, append=len(leading)) > 1
    return Table(whole=whole, leading=leading, begin=begin, crowded=crowded)


def _weights() -> list[int]:
    """Return exp(-x^2 / (2 BASE^2)) for x from 0 on, times 2^WORK, by its ratios r q^x."""
    with localcontext() as context:
        context.prec = 110
        one = Decimal(2**WORK)
        ratio = int((Decimal(-1) / (2 * BASE**2)).exp() * one)
        shrink = int((Decimal(-1) / BASE**2).exp() * one)
    found = [1 << WORK]
    for _ in range(REACH * BASE):
        found.append(found[-1] * ratio >> WORK)
        ratio = ratio * shrink >> WORK
    return found
