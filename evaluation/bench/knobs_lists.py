"""What lists are like under a policy: right, varied, wide, and fair to merchants. Behind the knobs bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.beyond import Likeness, coverage, diversity
from evaluation.metrics import Indices, list_metrics
from server.serving.engine import Engine
from server.serving.exposure import attention
from server.serving.query import RankQuery
from server.serving.rerank import is_fresh, is_tail
from server.serving.snapshot import Snapshot

K = 10
BATCH = 64
POOL = 200
"""The candidates whose relevance is a merchant's merit: as many as the engine gives the knobs."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions with what was wanted, as item rows of the snapshot, ascending."""

    queries: Sequence[RankQuery]
    wanted: Sequence[Indices]


@dataclass(frozen=True, kw_only=True)
class Qualities:
    """Means over all lists.

    Attributes:
        ndcg: NDCG@10.
        diversity: one minus the mean cosine of all pairs of a list.
        coverage: share of the catalogue in at least one list.
        of_one_category, of_one_merchant: the most items that one of them has in a list, in the mean.
        tail, fresh: share of places with items of the tail, and with items listed lately.
        gap: half the sum over merchants of |share of exposure - share of merit|; 0 is fair, 1 the worst.
        drawn: share of places filled by exploration.
    """

    ndcg: float
    diversity: float
    coverage: float
    of_one_category: float
    of_one_merchant: float
    tail: float
    fresh: float
    gap: float
    drawn: float


def lists_of(engine: Engine, asked: Asked) -> tuple[Indices, float]:
    """The lists (questions, K) of an engine, and the share of places that exploration filled."""
    lists, drawn = np.empty((len(asked.queries), K), dtype=np.int64), 0
    for start in range(0, len(asked.queries), BATCH):
        for place, ranking in enumerate(engine.rank(asked.queries[start : start + BATCH]), start=start):
            lists[place] = ranking.items
            if ranking.propensities is not None:
                drawn += int((ranking.propensities < 0.5).sum())
    return lists, drawn / lists.size


def qualities(engine: Engine, asked: Asked, merits: npt.NDArray[np.float64]) -> Qualities:
    """Ask everything and measure; `merits` (merchants,) are shares (see `merits_of`)."""
    lists, drawn = lists_of(engine, asked)
    snapshot = engine.snapshot
    hits = np.stack([np.isin(row, wanted) for row, wanted in zip(lists, asked.wanted, strict=True)])
    sizes = np.array([len(wanted) for wanted in asked.wanted], dtype=np.int64)
    vectors = snapshot.index.vectors[:, : snapshot.dim]
    fresh = [
        is_fresh(snapshot, row, query.timestamp) for row, query in zip(lists, asked.queries, strict=True)
    ]
    return Qualities(
        ndcg=float(list_metrics(hits, sizes, [K])[f"ndcg@{K}"].mean()),
        diversity=float(diversity(lists, Likeness.by_vectors(vectors)).mean()),
        coverage=coverage(lists, len(snapshot.items)),
        of_one_category=_most(snapshot.items.category_codes, lists),
        of_one_merchant=_most(snapshot.items.merchant_codes, lists),
        tail=float(is_tail(snapshot, lists.ravel()).mean()),
        fresh=float(np.mean(fresh)),
        gap=float(np.abs(_exposures(snapshot, lists) - merits).sum() / 2),
        drawn=drawn,
    )


def merits_of(engine: Engine, asked: Asked) -> npt.NDArray[np.float64]:
    """The share of all merit that each merchant has: relevance over the candidates, as `Exposure` counts it.

    `engine` has every knob off; the questions ask for `POOL` items.
    """
    codes = engine.snapshot.items.merchant_codes
    merits = np.zeros(len(engine.snapshot.items.merchants))
    for start in range(0, len(asked.queries), BATCH):
        for ranking in engine.rank(asked.queries[start : start + BATCH]):
            relevance = ranking.scores - ranking.scores.min()
            merits += np.bincount(codes[ranking.items], relevance / relevance.sum(), len(merits))
    return np.asarray(merits / merits.sum())


def _exposures(snapshot: Snapshot, lists: Indices) -> npt.NDArray[np.float64]:
    codes = snapshot.items.merchant_codes[lists]
    shares = np.broadcast_to(attention(K), codes.shape)
    found = np.bincount(codes.ravel(), shares.ravel(), len(snapshot.items.merchants))
    return np.asarray(found / len(lists))


def _most(codes: npt.NDArray[np.int32], lists: Indices) -> float:
    """The mean over lists of the largest number of items with one code."""
    return float(np.mean([np.bincount(codes[row]).max() for row in lists]))
