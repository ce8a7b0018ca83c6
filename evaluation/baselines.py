"""The simplest ranker, and what all baselines have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from evaluation.errors import SplitError
from evaluation.metrics import Indices, Scores, hits_of, list_metrics, top_items
from evaluation.protocol import Scorer, scored
from evaluation.split import Split, validation

Settings = TypeVar("Settings")
Fit: TypeAlias = Callable[[Split, int], Scorer]
"""Every baseline: learns from `split.positives`, with a seed, and answers with a scorer."""

_DEPTH = 10


def popularity(split: Split, seed: int) -> Scorer:
    """The same list for everybody: how many shoppers have the item in train. (The seed is not needed.)"""
    del seed
    audience = np.bincount(split.positives.indices, minlength=len(split.items)).astype(np.float32)

    def score(shoppers: Indices) -> Scores:
        return np.broadcast_to(audience, (shoppers.size, audience.size))

    return score


def best_of(
    candidates: Sequence[Settings],
    fitter: Callable[[Split], Callable[[Settings], Scorer]],
    split: Split,
    seed: int,
) -> Settings:
    """The settings with the highest NDCG@10 on a validation cut of train; of equals, the first.

    `fitter` gets the cut once and then fits each candidate on it. A train part too small to be cut again
    decides nothing: the first candidate is the default.
    """
    try:
        inner = validation(split, seed=seed)
    except SplitError:
        return candidates[0]
    fit = fitter(inner)
    return candidates[int(np.argmax([_ndcg(fit(settings), inner) for settings in candidates]))]


def _ndcg(scorer: Scorer, inner: Split) -> float:
    """Mean NDCG@10 alone: choosing needs nothing else, and the AUC costs most of the time."""
    parts = []
    for shoppers, candidates in scored(scorer, inner):
        relevant = inner.relevant[shoppers]
        hits = hits_of(top_items(candidates, _DEPTH), relevant)
        parts.append(list_metrics(hits, np.diff(relevant.indptr), [_DEPTH])[f"ndcg@{_DEPTH}"])
    return float(np.concatenate(parts).mean())
