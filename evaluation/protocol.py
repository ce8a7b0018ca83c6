"""Judging a scorer on a split, shopper by shopper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from evaluation.beyond import Likeness, coverage, diversity, novelty
from evaluation.bootstrap import Interval, intervals
from evaluation.errors import ProtocolError
from evaluation.metrics import Floats, Indices, Scores, auc, hits_of, list_metrics, masked, top_items
from evaluation.sampled import PREFIX, sampled_metrics
from evaluation.split import Split

Scorer: TypeAlias = Callable[[Indices], Scores]
"""Scores (shoppers, items) for some shopper indices of a split; the higher, the earlier in the list."""

_CELLS = 8_000_000  # scores held in memory at once


class Protocol(StrEnum):
    """Who competes with a held-out item."""

    FULL = "full"  # every item that the shopper does not have in train
    SAMPLED = "sampled"  # 99 drawn items; flatters, and only comparable with papers that did the same


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What one model achieved on one split."""

    name: str
    protocol: Protocol
    shoppers: Indices  # (n,) who was judged
    per_shopper: Mapping[str, Floats]  # metric -> (n,)
    overall: Mapping[str, float]  # metrics of all lists together: coverage
    diversity_by: str | None  # what makes two items alike, where diversity was measured

    def mean(self, metric: str) -> float:
        """One number. Raises ProtocolError for a metric that was not measured."""
        if metric in self.overall:
            return self.overall[metric]
        return float(self._values(metric).mean())

    def summary(self, *, seed: int = 0) -> dict[str, dict[str, float]]:
        """`{METRIC: {"mean", "low", "high"}}` with 95 % bootstrap intervals over shoppers.

        Coverage gets low = high = mean: a resample repeats shoppers and so always covers fewer items, its
        interval would lie below the value itself.
        """
        values = np.stack(list(self.per_shopper.values()), axis=1)
        ends = dict(zip(self.per_shopper, intervals(values, seed), strict=True))
        ends |= {metric: Interval.point(value) for metric, value in self.overall.items()}
        return {metric: interval.as_dict() for metric, interval in ends.items()}

    def _values(self, metric: str) -> Floats:
        if metric not in self.per_shopper:
            raise ProtocolError(f"no values of {metric!r} per shopper; known are {sorted(self.per_shopper)}")
        return self.per_shopper[metric]


def evaluate(
    name: str,
    scorer: Scorer,
    split: Split,
    *,
    ks: Sequence[int] = (10, 20),
    protocol: Protocol = Protocol.FULL,
    seed: int = 0,
    likeness: Likeness | None = None,
) -> Result:
    """Rank for every evaluated shopper and measure. Train items are masked for all models alike.

    `seed` draws the negatives of SAMPLED, whose metrics bear the prefix `sampled99_`. `likeness` adds
    diversity.
    """
    if not ks or min(ks) < 1:
        raise ProtocolError(f"list depths are {tuple(ks)}, each must be 1 or more")
    if protocol is Protocol.SAMPLED:
        return _evaluate_sampled(name, scorer, split, ks, seed)
    accuracy, top = _rank(scorer, split, ks)
    return Result(
        name=name,
        protocol=protocol,
        shoppers=split.evaluated,
        per_shopper=accuracy | _list_qualities(top, split, ks, likeness),
        overall={f"coverage@{k}": coverage(top[:, :k], len(split.items)) for k in ks},
        diversity_by=None if likeness is None else likeness.basis,
    )


def paired_difference(first: Result, second: Result, metric: str, *, seed: int = 0) -> Interval:
    """Interval of mean(first - second) over the same shoppers: without 0 inside, the difference is real."""
    if first.protocol is not second.protocol or not np.array_equal(first.shoppers, second.shoppers):
        raise ProtocolError(
            f"{first.name!r} and {second.name!r} were not judged on the same shoppers and protocol"
        )
    difference = first._values(metric) - second._values(metric)
    return intervals(difference[:, None], seed)[0]


def scored(scorer: Scorer, split: Split) -> Iterator[tuple[Indices, Scores]]:
    """Blocks of evaluated shoppers with their masked scores."""
    block = max(1, _CELLS // len(split.items))
    for start in range(0, split.evaluated.size, block):
        shoppers = split.evaluated[start : start + block]
        yield shoppers, masked(scorer(shoppers), split.seen[shoppers])


def _rank(scorer: Scorer, split: Split, ks: Sequence[int]) -> tuple[dict[str, Floats], Indices]:
    """Accuracy of every evaluated shopper, and the lists (shoppers, max k)."""
    accuracy: list[dict[str, Floats]] = []
    lists: list[Indices] = []
    for shoppers, candidates in scored(scorer, split):
        relevant = split.relevant[shoppers]
        top = top_items(candidates, max(ks))
        counts = np.diff(relevant.indptr).astype(np.int64)
        values = list_metrics(hits_of(top, relevant), counts, ks)
        accuracy.append(values | {"auc": auc(candidates, relevant)})
        lists.append(top)
    return _joined(accuracy), np.concatenate(lists)


def _list_qualities(
    top: Indices, split: Split, ks: Sequence[int], likeness: Likeness | None
) -> dict[str, Floats]:
    """Novelty and, with a likeness, diversity at every depth."""
    audience = np.bincount(split.seen.indices, minlength=len(split.items))
    qualities = {f"novelty@{k}": novelty(top[:, :k], audience, len(split.shoppers)) for k in ks}
    if likeness is not None:
        qualities |= {f"diversity@{k}": diversity(top[:, :k], likeness) for k in ks}
    return qualities


def _evaluate_sampled(name: str, scorer: Scorer, split: Split, ks: Sequence[int], seed: int) -> Result:
    """The protocol of one held-out item against 99 drawn ones, averaged over each shopper's items."""
    parts = [sampled_metrics(scores, shoppers, split, ks, seed) for shoppers, scores in scored(scorer, split)]
    return Result(
        name=name,
        protocol=Protocol.SAMPLED,
        shoppers=split.evaluated,
        per_shopper={f"{PREFIX}{metric}": values for metric, values in _joined(parts).items()},
        overall={},
        diversity_by=None,
    )


def _joined(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The blocks' values, one array per metric."""
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}
