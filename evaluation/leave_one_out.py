"""The protocol "last item out, 99 negatives, leak-free", in one place.

* Train: all events of a shopper before the last one that brings a new item (`SplitKind.LAST`). Events of one second
  keep the order of the file, so that the last row wins a tie. The papers that follow He et al. 2017 let the first
  row win; in ml-100k 415 of 943 shoppers have such a tie, and the file's order means nothing there.
* Test: that one item, against 99 items drawn without replacement, all equally likely, from those that the shopper
  touches neither in train nor in test (`evaluation/sampled.py`); a hit is a place among the first ten.
* Leak-free: whatever a model draws as negatives *while it learns* excludes the shopper's train items and nothing
  else, so that the held-out item is as likely a negative as any other unseen item.

Choices are made on the same cut of train (`evaluation.split.validation`): the last but one item is held out there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.protocol import Protocol, Scorer, evaluate
from evaluation.sampled import PREFIX
from evaluation.split import Split, SplitKind, split
from simulation.data import load


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Means over shoppers of one model under this protocol.

    Attributes:
        hit_rate: HR@10, the share of shoppers whose item is among the first ten of the hundred.
        ndcg: NDCG@10 of the hundred.
    """

    hit_rate: float
    ndcg: float


def last_item_out(folder: Path) -> Split:
    """Read a data set and hold out every shopper's last item."""
    return split(load(folder), SplitKind.LAST)


def judge(scorer: Scorer, cut: Split, seed: int) -> Accuracy:
    """Rank every held-out item among 99 negatives drawn with `seed`.

    Raises:
        ProtocolError: fewer than 99 items are left for a shopper.
    """
    result = evaluate("last item out", scorer, cut, ks=(10,), protocol=Protocol.SAMPLED, seed=seed)
    # With one relevant item, recall is the hit rate.
    return Accuracy(hit_rate=result.mean(f"{PREFIX}recall@10"), ndcg=result.mean(f"{PREFIX}ndcg@10"))
