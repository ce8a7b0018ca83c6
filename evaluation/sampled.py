"""The sampled protocol of He et al. 2017: each held-out item against 99 drawn ones.

It exists to compare with papers that used it. Krichene and Rendle (2020) show that it can reverse the order
of models, so nothing here quotes it without its name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluation.errors import ProtocolError
from evaluation.metrics import Floats, Indices, Scores, list_metrics
from evaluation.split import Csr, Split

NEGATIVES = 99
PREFIX = f"sampled{NEGATIVES}_"
"""Stands before the name of every metric of this protocol."""


def sampled_metrics(
    scores: Scores, shoppers: Indices, split: Split, ks: Sequence[int], seed: int
) -> dict[str, Floats]:
    """Metrics per shopper, `{metric: (shoppers,)}`, from scores (shoppers, items).

    Each shopper's draws depend on the seed and the shopper alone. Equal scores rank by item index.
    """
    parts = [
        _places(row, shopper, split, np.random.default_rng((seed, shopper)))
        for row, shopper in zip(scores, shoppers.tolist(), strict=True)
    ]
    places = np.concatenate([place for place, _ in parts])
    counts = np.array([len(place) for place, _ in parts])
    hits = np.arange(NEGATIVES + 1)[None, :] == places[:, None]
    metrics = list_metrics(hits, np.ones(len(places), dtype=np.int64), ks)
    metrics["auc"] = np.concatenate([wins for _, wins in parts])
    starts = np.cumsum(counts) - counts
    return {name: np.add.reduceat(values, starts) / counts for name, values in metrics.items()}


def _places(
    scores: Scores, shopper: int, split: Split, random: np.random.Generator
) -> tuple[Indices, Floats]:
    """For each of the shopper's held-out items, how many of its own 99 negatives are ahead and what share loses."""
    positives = _row(split.relevant, shopper).astype(np.int64)
    outside = _never_touched(split, shopper)
    drawn = np.stack([random.choice(outside, NEGATIVES, replace=False) for _ in positives])
    mine, others = scores[positives][:, None], scores[drawn]
    ahead = (others > mine) | ((others == mine) & (drawn < positives[:, None]))
    wins = (others < mine).mean(axis=1) + (others == mine).mean(axis=1) / 2.0
    return ahead.sum(axis=1), wins


def _never_touched(split: Split, shopper: int) -> Indices:
    """Items outside the shopper's train and test. Raises ProtocolError where fewer than 99 are left."""
    free = np.ones(len(split.items), dtype=np.bool_)
    free[_row(split.seen, shopper)] = False
    free[_row(split.held_out, shopper)] = False
    outside = np.flatnonzero(free)
    if outside.size < NEGATIVES:
        raise ProtocolError(
            f"only {outside.size} items lie outside a shopper's train and test, the sampled protocol draws "
            f"{NEGATIVES}; use the full protocol"
        )
    return outside


def _row(matrix: Csr, shopper: int) -> npt.NDArray[np.int32]:
    """The items of one shopper, without building a matrix of one row."""
    return np.asarray(matrix.indices[matrix.indptr[shopper] : matrix.indptr[shopper + 1]])
