"""The memory ranker: a model without any model, which finds leaks in the harness.

It ranks a shopper's items by how rarely they were drawn as training negatives. Where negatives avoid all that
the shopper ever touches, test included, the held-out items are never drawn and rise to the top, although
nothing was learnt. With negatives that avoid train items only, it scores like chance.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.sparse as sp

from evaluation.metrics import Flags, Indices, Scores
from evaluation.protocol import Result, Scorer, evaluate
from evaluation.split import Split


class NegativeSampler(Protocol):
    """Draws training negatives for every shopper of a split, all items being equally likely."""

    def __call__(self, split: Split, seed: int, round_number: int) -> tuple[Indices, Flags]:
        """Item indices (shoppers, draws) and which of them count (shoppers, draws); the others were masked."""
        ...


def memory_ranker(split: Split, sampler: NegativeSampler, *, rounds: int, seed: int) -> Scorer:
    """Scores are minus the number of times that an item was a negative of the shopper over some rounds."""
    shape = (len(split.shoppers), len(split.items))
    draws = [sampler(split, seed, round_number) for round_number in range(rounds)]
    items = np.concatenate([drawn_items for drawn_items, _ in draws], axis=1)
    ones = np.concatenate([counted for _, counted in draws], axis=1).astype(np.float32)
    shoppers = np.repeat(np.arange(shape[0]), items.shape[1])
    drawn = sp.csr_matrix((ones.ravel(), (shoppers, items.ravel())), shape=shape)

    def score(shoppers: Indices) -> Scores:
        scores: Scores = -drawn[shoppers].toarray()
        return scores

    return score


def distance_from_chance(split: Split, sampler: NegativeSampler, *, rounds: int = 20, seed: int = 0) -> float:
    """How many standard errors the memory ranker's mean AUC lies above 0.5; beyond 4 the sampler leaks.

    Chance is 0.5 exactly, whatever the held-out items are, because the draws do not depend on them.
    """
    result: Result = evaluate("memory", memory_ranker(split, sampler, rounds=rounds, seed=seed), split)
    areas = result.per_shopper["auc"]
    error = float(areas.std(ddof=1)) / np.sqrt(areas.size)
    return (result.mean("auc") - 0.5) / max(float(error), float(np.finfo(np.float64).eps))
