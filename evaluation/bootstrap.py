"""How sure a mean over shoppers is: percentile bootstrap (Efron 1979), shoppers drawn with replacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics import Floats

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK = 4_000_000  # weights held in memory at once


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The form in which reports hold it."""
        return {"mean": self.mean, "low": self.low, "high": self.high}

    @classmethod
    def point(cls, value: float) -> Interval:
        """A value that is not a mean over shoppers and so has no interval of its own."""
        return cls(mean=value, low=value, high=value)


def intervals(values: Floats, seed: int, *, resamples: int = RESAMPLES) -> list[Interval]:
    """One interval per column of `values` (shoppers, metrics).

    All columns share the same resamples; the ends are widened to the mean where rounding put it outside.
    """
    means = values.mean(axis=0)
    drawn = _resampled_means(values, seed, resamples)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    columns = zip(means, np.minimum(low, means), np.maximum(high, means), strict=True)
    return [Interval(mean=float(m), low=float(a), high=float(b)) for m, a, b in columns]


def _resampled_means(values: Floats, seed: int, resamples: int) -> Floats:
    """Means of every resample: (resamples, metrics), as products of draw counts and values."""
    shoppers = values.shape[0]
    random = np.random.default_rng(seed)
    even = np.full(shoppers, 1.0 / shoppers)
    block = max(1, _BLOCK // shoppers)
    parts = []
    for start in range(0, resamples, block):
        counts = random.multinomial(shoppers, even, size=min(block, resamples - start))
        parts.append(counts.astype(np.float64) @ values / shoppers)
    return np.concatenate(parts)
