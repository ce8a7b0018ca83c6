"""A cohort dealt at random into buckets with a secure sum each, and one sum made of theirs.

Under masks nobody sees who sent what, so a bucket is the smallest group that can be bounded, refused and named. With
three or more, the median of their means leaves a minority of spoiled buckets no say in where the sum goes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy.secagg.manifest import LARGEST_COHORT
from server.coordination.aggregate import CohortTooSmall
from server.coordination.collecting import Totals
from server.coordination.config import Combine

FEWEST_FOR_MEDIAN: Final = 3
MEDIAN_SPREAD: Final = math.sqrt(math.pi / 2)
"""Deviation of a median of normal numbers over that of their mean; with few of them it is a little less."""


@dataclass(frozen=True, kw_only=True)
class BucketSum:
    """What one bucket contributed."""

    totals: Totals
    participants: int


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """How a cohort is divided.

    Attributes:
        count: buckets that are wanted; fewer are made where they would be too small.
        smallest: fewest nodes of a bucket; in simulation one carries many participants.
    """

    smallest: int
    count: int = 1
    combine: Combine = Combine.SUM

    def dealt(self, names: Sequence[str], draw: random.Random) -> list[tuple[str, ...]]:
        """Return the names in buckets, each sorted, whose sizes differ by at most 1.

        Raises:
            CohortTooSmall: there are too few for one bucket, or for a median.
        """
        count = max(min(self.count, len(names) // self.smallest), -(-len(names) // LARGEST_COHORT))
        self._check(count, f"{len(names)} nodes in buckets of at least {self.smallest}")
        if len(names) < self.smallest * count:
            raise CohortTooSmall(
                f"{len(names)} nodes are there and a sum takes {self.smallest}; wait for more, or lower "
                "the minimum cohort"
            )
        shuffled = draw.sample(list(names), len(names))
        return [tuple(sorted(shuffled[place::count])) for place in range(count)]

    def combined(self, sums: Sequence[BucketSum]) -> BucketSum:
        """Return one sum of all; raises `CohortTooSmall` where too few buckets are left."""
        self._check(len(sums), f"{len(sums)} buckets have closed")
        participants = sum(one.participants for one in sums)
        parts = {name: np.stack([one.totals[name] for one in sums]) for name in sums[0].totals}
        if self.combine is Combine.SUM:
            return BucketSum(
                totals={name: part.sum(axis=0) for name, part in parts.items()}, participants=participants
            )
        sizes = np.array([one.participants for one in sums], dtype=np.float64)
        totals = {
            name: participants * np.median(part / sizes.reshape(-1, *[1] * (part.ndim - 1)), axis=0)
            for name, part in parts.items()
        }
        return BucketSum(totals=totals, participants=participants)

    def _check(self, count: int, found: str) -> None:
        needed = FEWEST_FOR_MEDIAN if self.combine is Combine.MEDIAN else 1
        if count < needed:
            raise CohortTooSmall(
                f"{found}: a {self.combine} of buckets takes {needed}; wait for more participants, or lower the "
                "minimum cohort"
            )
