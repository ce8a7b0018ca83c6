"""The two towers as a scorer of a split: histories from train, the moment of the first held-out event."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.shoppers import Shoppers
from evaluation.protocol import Scorer
from evaluation.split import Split
from model.features import KINDS, Histories, Moments, moments_at
from model.sampling import mixed
from model.schema import Weights
from model.two_tower import encode_items, encode_users, score
from simulation.data import Clock


def has_clock(clock: Clock) -> bool:
    """Return whether timestamps are moments of the calendar."""
    return clock in (Clock.SECONDS, Clock.DAYS)


def histories_of(split: Split) -> Histories:
    """Return the train events of all shoppers of a split, oldest first."""
    number = {kind: index for index, kind in enumerate(KINDS)}
    kinds = split.train["kind"].replace_strict(number).to_numpy().astype(np.int8)
    rows = split.train["shopper"].to_numpy()
    indptr = np.searchsorted(rows, np.arange(len(split.shoppers) + 1)).astype(np.int64)
    times = split.train["timestamp"].to_numpy().astype(np.int64)
    return Histories(indptr, split.train["item"].to_numpy().astype(np.int32), kinds, times)


def pooled_shoppers(split: Split) -> Shoppers:
    """Return all shoppers in one place, which only an evaluation may have."""
    keys = mixed(np.arange(len(split.shoppers), dtype=np.uint64))
    return Shoppers(split.shoppers, histories_of(split), keys)


def moments_of(split: Split) -> Moments:
    """Return the moment at which each shopper is judged; the end of train where the held-out time is unknown."""
    if not has_clock(split.clock):
        return moments_at(np.full(len(split.shoppers), -1, dtype=np.int64))
    end = np.int64(split.train["timestamp"].to_numpy().max())
    return moments_at(np.where(split.moments >= 0, split.moments, end).astype(np.int64))


def tower_scorer(weights: Weights, features: sp.csr_matrix, split: Split) -> Scorer:
    """Return the scorer of a model version; the user embeddings are computed from local histories."""
    vectors = encode_items(weights, features)
    recent, moments = histories_of(split).recent(), moments_of(split)

    def scores(shoppers: NDArray[np.int64]) -> NDArray[np.float32]:
        at = Moments(moments.times[shoppers], moments.codes[shoppers])
        return score(weights, encode_users(weights, vectors, recent.select(shoppers), at), vectors)

    return scores
