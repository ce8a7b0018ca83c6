"""Results inside each merchant's own catalogue, what its own shop would show, over enough shoppers to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import hits_of, list_metrics, masked, top_items
from evaluation.protocol import Scorer
from evaluation.split import Split
from model.catalogue import PublicItems
from privacy.anonymity import OTHER, Figures, Group, Measure, safe_groups

DEPTH = 10
METRIC = f"ndcg@{DEPTH}"
BLOCK = 512


def merchant_rows(
    split: Split, catalogue: PublicItems, scorers: Mapping[str, Scorer]
) -> list[dict[str, Any]]:
    """Return one row per merchant with NDCG@10 of each scorer among the merchant's items, largest first.

    Judged are shoppers with a held-out new item at the merchant; `shoppers_at_least` is their number, rounded
    down. Merchants with too few of them are one row together, the last; there is none if all together have too few.
    """
    owned = {name: catalogue.of_merchant(name) for name in sorted(set(catalogue.merchant_ids))}
    found: dict[str, dict[str, list[NDArray[np.float64]]]] = {name: {} for name in owned}
    for start in range(0, split.evaluated.size, BLOCK):
        shoppers = split.evaluated[start : start + BLOCK]
        for model, scorer in scorers.items():
            candidates = masked(scorer(shoppers), split.seen[shoppers])
            for name, own in owned.items():
                found[name].setdefault(f"{METRIC} {model}", []).append(
                    _inside(candidates, split, shoppers, own)
                )
    groups = {
        name: Group(
            shoppers=_judged_at(split, own),
            figures={figure: np.concatenate(parts) for figure, parts in found[name].items()},
        )
        for name, own in owned.items()
    }
    sizes = {name: int(own.size) for name, own in owned.items()}
    return _rows(safe_groups(groups, Measure.MEAN), sizes)


def _judged_at(split: Split, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the shoppers with something to find at the merchant, ascending."""
    return split.evaluated[np.diff(split.relevant[split.evaluated][:, own].indptr) > 0]


def _inside(
    candidates: NDArray[np.float32], split: Split, shoppers: NDArray[np.int64], own: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return NDCG@10 of the shoppers with something to find at the merchant."""
    relevant = split.relevant[shoppers][:, own]
    rows = np.flatnonzero(np.diff(relevant.indptr))
    if not rows.size:
        return np.zeros(0)
    relevant = relevant[rows]
    top = top_items(candidates[np.ix_(rows, own)], DEPTH)
    counts = np.diff(relevant.indptr).astype(np.int64)
    return np.asarray(list_metrics(hits_of(top, relevant), counts, (DEPTH,))[METRIC])


def _rows(shown: Sequence[Figures], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    alone = {one.label for one in shown if one.label in sizes}
    items = {**sizes, OTHER: sum(size for name, size in sizes.items() if name not in alone)}
    rows = [
        {
            "merchant": one.label,
            "items": items[one.label],
            "shoppers_at_least": one.at_least,
            **one.values,
        }
        for one in shown
    ]
    return sorted(rows, key=lambda row: (row["merchant"] == OTHER, -row["items"], row["merchant"]))
