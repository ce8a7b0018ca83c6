"""Results inside each merchant's own catalogue: what its own shop would show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import hits_of, list_metrics, masked, top_items
from evaluation.protocol import Scorer
from evaluation.split import Split
from model.catalogue import PublicItems

DEPTH = 10
METRIC = f"ndcg@{DEPTH}"
BLOCK = 512


def merchant_rows(
    split: Split, catalogue: PublicItems, scorers: Mapping[str, Scorer]
) -> list[dict[str, Any]]:
    """Return one row per merchant with NDCG@10 of each scorer among the merchant's items, largest first.

    `shoppers` counts those with a held-out new item at the merchant; the ranking is over its own catalogue.
    """
    owners = {name: catalogue.of_merchant(name) for name in sorted(set(catalogue.merchant_ids))}
    found: dict[str, dict[str, list[NDArray[np.float64]]]] = {name: {} for name in owners}
    for start in range(0, split.evaluated.size, BLOCK):
        shoppers = split.evaluated[start : start + BLOCK]
        for model, scorer in scorers.items():
            candidates = masked(scorer(shoppers), split.seen[shoppers])
            for name, own in owners.items():
                found[name].setdefault(model, []).append(_inside(candidates, split, shoppers, own))
    rows = [_row(name, owners[name], found[name]) for name in owners]
    return sorted(rows, key=lambda row: (-row["items"], row["merchant"]))


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


def _row(name: str, own: NDArray[np.int64], found: Mapping[str, list[NDArray[np.float64]]]) -> dict[str, Any]:
    values = {model: np.concatenate(parts) for model, parts in found.items()}
    judged = next(iter(values.values())).size
    means = {f"{METRIC} {model}": float(value.mean()) if judged else None for model, value in values.items()}
    return {"merchant": name, "items": int(own.size), "shoppers": int(judged), **means}
