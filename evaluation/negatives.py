"""Two rules for the negatives that a model learns from; one of them leaks the test.

The PFedRec family (PFedRec, GPFedRec, FedRAP and others) draws training negatives from all items minus *all* of the
shopper's interactions, the held-out one included. It is therefore never a negative, while the 99 items that it is
ranked against are. `evaluation/memory.py` shows what that alone is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from evaluation.errors import ProtocolError
from evaluation.memory import NegativeSampler
from evaluation.metrics import Flags, Floats, Indices
from evaluation.split import Split


class NegativeRule(StrEnum):
    """Which items may be a negative of a shopper."""

    PUBLISHED = "published"  # neither in train nor in test: leaks
    LEAK_FREE = "leak-free"  # not in train


@dataclass(frozen=True, kw_only=True, eq=False)
class NegativePool:
    """The items that may be negatives of each shopper, all equally likely (compressed rows)."""

    items: Indices
    indptr: Indices

    @classmethod
    def of(cls, split: Split, rule: NegativeRule) -> NegativePool:
        """Return the pool of a rule.

        Raises:
            ProtocolError: a shopper has touched every item.
        """
        taken = split.seen + split.held_out if rule is NegativeRule.PUBLISHED else split.seen
        free = taken.toarray() == 0
        sizes = free.sum(axis=1)
        if not sizes.all():
            raise ProtocolError(
                f"{int((sizes == 0).sum())} of {len(sizes)} shoppers have touched all {free.shape[1]} items, which "
                "leaves no negative; leave these shoppers out or add items"
            )
        return cls(items=np.nonzero(free)[1].astype(np.int64), indptr=np.concatenate([[0], np.cumsum(sizes)]))

    def pick(self, shoppers: Indices, uniforms: Floats) -> Indices:
        """Return one item per uniform number in [0, 1): (n, draws) for `shoppers` (n,)."""
        sizes = np.diff(self.indptr)[shoppers][:, None]
        return self.items[self.indptr[shoppers][:, None] + (uniforms * sizes).astype(np.int64)]


def sampler(rule: NegativeRule, draws: int) -> NegativeSampler:
    """Return the rule as the memory ranker asks for it: `draws` items per shopper and round."""

    def draw(split: Split, seed: int, round_number: int) -> tuple[Indices, Flags]:
        shoppers = np.arange(len(split.shoppers), dtype=np.int64)
        numbers = np.random.default_rng((seed, round_number)).random((len(shoppers), draws))
        items = NegativePool.of(split, rule).pick(shoppers, numbers)
        return items, np.ones(items.shape, dtype=np.bool_)

    return draw
