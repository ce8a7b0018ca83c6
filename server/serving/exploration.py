"""Random places in a list, with the exact probability of what came to each, for off-policy evaluation.

Every place that may explore does so with probability `share`, independently of the others. The exploring places are
filled with candidates of the pool, drawn evenly and without replacement; the pool holds no item of the ordered
list. So, over all draws, at a place that may explore

* the ordered item stands with probability 1 - share;
* any given item of the pool stands with probability share / pool: by symmetry each is as likely as the others.

These are the marginal probabilities P(item at place | question, state of the endpoint), which inverse propensity
scoring by item and place needs. They are not independent between places: an item is drawn once.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Explored:
    """A list after exploration, (k,) each: what stands at a place, how likely that was, whether it was drawn."""

    places: Ints
    propensities: npt.NDArray[np.float32]
    drawn: Bools


def explore(ordered: Ints, pool: Ints, fixed: Bools, share: float, seed: str) -> Explored:
    """Give some places of `ordered` (k,) to members of `pool`, the same ones for the same `seed`; "" draws anew.

    Places where `fixed` (k,) holds never explore. Where the pool is smaller than the number of the others, only
    the lowest of them may: every exploring place must find an item.
    """
    free = np.flatnonzero(~fixed)
    free = free[max(len(free) - len(pool), 0) :]
    fixed_by = int.from_bytes(blake2b(seed.encode(), digest_size=16).digest()) if seed else None
    chance = np.random.default_rng(fixed_by)
    drawn = np.zeros(len(ordered), dtype=np.bool_)
    drawn[free[chance.random(len(free)) < share]] = True
    places = ordered.copy()
    places[drawn] = chance.choice(pool, int(drawn.sum()), replace=False)
    propensities = np.ones(len(ordered), dtype=np.float32)
    propensities[free] = 1 - share
    propensities[drawn] = share / max(len(pool), 1)
    return Explored(places=places, propensities=propensities, drawn=drawn)
