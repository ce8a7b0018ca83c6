"""A snapshot as re-ranking sees it: vectors, merchants, categories and days of some hundred items."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

NOW = 1_700_000_000
DAY = 24 * 3600
N = 300


@dataclass(frozen=True)
class Scored:
    """Candidates, best first."""

    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    tiers: npt.NDArray[np.int64] | None = None


class Index:
    """Holds vectors, nothing else."""

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        """Keep (items, dim + 1) vectors; the last column is the prior."""
        self.vectors = vectors


def world(seed: int = 0, items: int = 500, dim: int = 8, merchants: int = 10, categories: int = 6) -> Any:
    """Random items, a tenth of them listed within the last days, a tenth on an unknown day."""
    chance = np.random.default_rng(seed)
    age = np.where(chance.random(items) < 0.1, 5, 200) * DAY
    table = SimpleNamespace(
        merchant_codes=chance.integers(0, merchants, items).astype(np.int32),
        category_codes=chance.integers(0, categories, items).astype(np.int32),
        merchants=[f"merchant-{code}" for code in range(merchants)],
        categories=[f"category-{code}" for code in range(categories)],
        listed_at=np.where(chance.random(items) < 0.1, -1, NOW - age),
        flags={},
    )
    vectors = chance.normal(0, 1, (items, dim + 1)).astype(np.float32)
    return SimpleNamespace(items=table, index=Index(vectors), dim=dim)


def scored(seed: int = 0, n: int = N, items: int = 500) -> Scored:
    """`n` distinct items with falling scores."""
    chance = np.random.default_rng(seed)
    scores = np.sort(chance.normal(0, 1, n).astype(np.float32))[::-1]
    return Scored(chance.permutation(items)[:n].astype(np.int64), scores)
