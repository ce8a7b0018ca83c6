"""The sampled protocol of He et al. 2017: each held-out item against 99 drawn ones.

It exists to compare with papers that used it. Krichene and Rendle (2020) show that it can reverse the order
of models, so nothing here quotes it without its name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.errors import ProtocolError
from evaluation.metrics import Floats, Indices, Scores, list_metrics
from evaluation.split import Split

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
        _one_shopper(row, shopper, split, ks, np.random.default_rng((seed, shopper)))
        for row, shopper in zip(scores, shoppers.tolist(), strict=True)
    ]
    return {metric: np.array([part[metric] for part in parts]) for metric in parts[0]}


def _one_shopper(
    scores: Scores, shopper: int, split: Split, ks: Sequence[int], random: np.random.Generator
) -> dict[str, float]:
    """Means over the shopper's held-out items, each with its own 99 negatives."""
    positives = split.relevant[shopper].indices.astype(np.int64)
    outside = _never_touched(split, shopper)
    drawn = np.stack([random.choice(outside, NEGATIVES, replace=False) for _ in positives])
    mine, others = scores[positives][:, None], scores[drawn]
    ahead = (others > mine) | ((others == mine) & (drawn < positives[:, None]))
    places = ahead.sum(axis=1)
    hits = np.arange(NEGATIVES + 1)[None, :] == places[:, None]
    metrics = list_metrics(hits, np.ones(positives.size, dtype=np.int64), ks)
    wins = (others < mine).mean(axis=1) + (others == mine).mean(axis=1) / 2.0
    return {name: float(values.mean()) for name, values in metrics.items()} | {"auc": float(wins.mean())}


def _never_touched(split: Split, shopper: int) -> Indices:
    """Items outside the shopper's train and test. Raises ProtocolError where fewer than 99 are left."""
    free = np.ones(len(split.items), dtype=np.bool_)
    free[split.seen[shopper].indices] = False
    free[split.held_out[shopper].indices] = False
    outside = np.flatnonzero(free)
    if outside.size < NEGATIVES:
        raise ProtocolError(
            f"only {outside.size} items lie outside a shopper's train and test, the sampled protocol draws "
            f"{NEGATIVES}; use the full protocol"
        )
    return outside
