"""Items that are absent from train: a fifth of the catalogue is taken out of it, then asked for.

The catalogue is cut at random into FOLDS parts by a public seed. In each fold, one part is cold: its events are the
test, and train has none of them. Who has train events and a held-out cold item is judged. Over all folds every item
is cold once, and what is compared is each shopper's mean over the folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from evaluation.errors import SplitError
from evaluation.metrics import Floats, Indices, Scores, hits_of, top_items
from evaluation.protocol import Protocol, Result, Scorer, evaluate, scored
from evaluation.split import Split, SplitKind, split
from simulation.data.dataset import Dataset

FOLDS = 5
SEED = 2018
KS = (10, 50)
METRICS = ("recall@50", "ndcg@10")
_FAR_BELOW = 1e6


class Candidates(StrEnum):
    """Who competes with a held-out cold item."""

    COLD = "cold"  # the cold items alone: a shelf of novelties
    ALL = "all"  # the whole catalogue but what the shopper has


@dataclass(frozen=True, kw_only=True, eq=False)
class ColdCut:
    """One fold.

    Attributes:
        split: train without any event of a cold item; test on cold items alone.
        cold: (n,) indices of the cold items, ascending.
        known: (items,) the items that were on sale during train.
        train: the same train as a data set, to be cut again for validation.
    """

    split: Split
    cold: Indices
    known: npt.NDArray[np.bool_]
    train: Dataset

    def validation(self) -> ColdCut:
        """Return a cut of train alone: a part of the known items plays cold, and the truly cold ones stay away."""
        items = np.flatnonzero(self.known)
        part = np.sort(np.random.default_rng(SEED + 1).permutation(items)[: len(items) // FOLDS])
        return _cut(self.train, part, self.known)


def cold_cut(dataset: Dataset, fold: int, *, seed: int = SEED) -> ColdCut:
    """Take the cold part of one fold, 0 to FOLDS - 1, out of a data set.

    Raises:
        SplitError: there is no such fold, or nobody is left to be judged.
    """
    if not 0 <= fold < FOLDS:
        raise SplitError(f"fold is {fold}; it must be 0 to {FOLDS - 1}")
    items = len(dataset.items)
    cold = np.sort(np.random.default_rng(seed).permutation(items)[fold::FOLDS])
    return _cut(dataset, cold, np.ones(items, dtype=np.bool_))


def judged(name: str, scorer: Scorer, cut: ColdCut, candidates: Candidates) -> Result:
    """Measure a scorer on one fold: recall@50 and ndcg@10 among others."""
    scores = among(scorer, cut.cold) if candidates is Candidates.COLD else scorer
    return evaluate(name, scores, cut.split, ks=KS)


def recall(scorer: Scorer, cut: ColdCut, k: int = 50) -> float:
    """Return the mean recall@k among cold items alone, and nothing else: enough to choose a recipe, and fast."""
    found, wanted = [], []
    for shoppers, candidates in scored(among(scorer, cut.cold), cut.split):
        relevant = cut.split.relevant[shoppers][:, cut.cold]
        found.append(hits_of(top_items(candidates[:, cut.cold], k), relevant).sum(axis=1))
        wanted.append(np.diff(relevant.indptr))
    return float((np.concatenate(found) / np.concatenate(wanted)).mean())


def among(scorer: Scorer, items: Indices) -> Scorer:
    """Return a scorer that ranks the given items above all others, each group in the order it had."""

    def scores(shoppers: Indices) -> Scores:
        given = np.asarray(scorer(shoppers), dtype=np.float64)
        below = np.full(given.shape[1], -_FAR_BELOW)
        below[items] = 0.0
        lowered: Scores = given + below
        return lowered

    return scores


def pooled(results: Sequence[Result], splits: Sequence[Split]) -> Result:
    """Return one result of the same model over several folds: the mean over the folds that judged a shopper.

    Shoppers bear the number of their place in the sorted list of all shoppers' ids.
    """
    names = sorted({name for split in splits for name in split.shoppers})
    number = {name: place for place, name in enumerate(names)}
    who = np.concatenate(
        [
            np.array([number[split.shoppers[row]] for row in result.shoppers], dtype=np.int64)
            for result, split in zip(results, splits, strict=True)
        ]
    )
    shoppers, place = np.unique(who, return_inverse=True)
    return Result(
        name=results[0].name,
        protocol=Protocol.FULL,
        shoppers=shoppers,
        per_shopper={metric: _mean_by(place, results, metric) for metric in METRICS},
        overall={},
        diversity_by=None,
    )


def _mean_by(place: Indices, results: Sequence[Result], metric: str) -> Floats:
    values = np.concatenate([result.per_shopper[metric] for result in results])
    return np.asarray(np.bincount(place, values) / np.bincount(place))


def _cut(dataset: Dataset, cold: Indices, known: npt.NDArray[np.bool_]) -> ColdCut:
    ids = dataset.items["item_id"].gather(cold).implode()
    inside = pl.col("item_id").is_in(ids)
    train = dataset.events.filter(~inside)
    held_out = replace(dataset, events=train, given_test=dataset.events.filter(inside))
    left = known.copy()
    left[cold] = False
    return ColdCut(
        split=split(held_out, SplitKind.GIVEN),
        cold=cold,
        known=left,
        train=replace(dataset, events=train, given_test=None),
    )
