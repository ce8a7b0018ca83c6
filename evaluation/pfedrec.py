"""PFedRec (Zhang et al., IJCAI 2023, "Dual personalization on federated recommendation"), computed for all at once.

Every shopper u holds a score function sigmoid(e . w_u + b_u) that never leaves, and a copy of the item embeddings e
that does. In a round each shopper starts from the server's embeddings and takes one pass over its positives with four
negatives each, in mini-batches: one SGD step on (w_u, b_u) and one on the embeddings, by mean binary cross-entropy.
The server averages the embeddings of all shoppers; a shopper ranks with its own copy of the last round.

A copy differs from the server's table only where its shopper drew an item, so that a round keeps one row per drawn
(shopper, item) pair and no table per shopper. The b-th mini-batches of all shoppers are one step.

Against the authors' code: negatives of one positive may repeat; the last but one item stays in train, since no round
is chosen by validation; the last round counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import special

from evaluation.errors import SettingsError
from evaluation.metrics import Indices, Scores
from evaluation.negatives import NegativePool, NegativeRule
from evaluation.protocol import Scorer
from evaluation.split import Split

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The authors' settings for ml-100k."""

    rounds: int = 100
    dim: int = 32
    negatives: int = 4
    batch: int = 256
    rate: float = 0.1  # of the score functions
    item_rate: float = 80.0  # factor on rate * items, the learning rate of the embeddings

    def __post_init__(self) -> None:
        """Refuse a training without a round.

        Raises:
            SettingsError: a number that has to be 1 or more is not.
        """
        for name in ("rounds", "dim", "negatives", "batch"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} of PFedRec is {getattr(self, name)}; it must be at least 1")


@dataclass
class _State:
    """What the server holds, `items` (items, dim), and every shopper's score function."""

    items: Array
    w: Array
    b: Array

    @classmethod
    def start(cls, split: Split, dim: int, random: np.random.Generator) -> _State:
        """Return the initial values of torch's Embedding and Linear; all shoppers start alike."""
        bound = 1.0 / np.sqrt(dim)
        items = random.standard_normal((len(split.items), dim)).astype(np.float32)
        w, b = random.uniform(-bound, bound, dim), random.uniform(-bound, bound)
        people = len(split.shoppers)
        return cls(items, np.tile(w, (people, 1)).astype(np.float32), np.full(people, b, dtype=np.float32))

    def scores(self, rows: Array, shoppers: Indices) -> Array:
        """Return the logits of item rows (n, dim) for their shoppers (n,)."""
        return np.asarray(np.einsum("nd,nd->n", rows, self.w[shoppers]) + self.b[shoppers])


@dataclass(frozen=True)
class _Samples:
    """One round: (n,) shopper, pair, label and mini-batch of every sample; (pairs,) owner and item of every pair."""

    shoppers: Indices
    pair: Indices
    labels: Array
    batches: Indices
    owners: Indices
    items: Indices

    def steps(self) -> Iterator[Indices]:
        """Yield the samples of the shoppers' first mini-batches, then of their second ones, and so on."""
        order = np.argsort(self.batches, kind="stable")
        yield from np.split(order, np.cumsum(np.bincount(self.batches))[:-1])


def pfedrec(split: Split, seed: int, rule: NegativeRule, settings: Settings) -> Scorer:
    """Return the personal rankers after the last round; `rule` says where negatives come from."""
    random = np.random.default_rng(seed)
    state, pool = _State.start(split, settings.dim, random), NegativePool.of(split, rule)
    for _ in range(settings.rounds):
        samples = _drawn(split, pool, settings, random)
        served = state.items
        local = _trained(state, samples, settings)
        state.items = served + _mean_change(
            samples, local - served[samples.items], served.shape[0], len(split.shoppers)
        )
    personal = state.w @ served.T + state.b[:, None]
    personal[samples.owners, samples.items] = state.scores(local, samples.owners)

    def score(shoppers: Indices) -> Scores:
        return personal[shoppers]

    return score


def _drawn(split: Split, pool: NegativePool, settings: Settings, random: np.random.Generator) -> _Samples:
    """Draw negatives for every positive and deal each shopper's samples into mini-batches at random."""
    positives = split.positives
    rows = np.repeat(np.arange(positives.shape[0]), np.diff(positives.indptr))
    negatives = pool.pick(rows, random.random((len(rows), settings.negatives)))
    items = np.concatenate([positives.indices[:, None], negatives], axis=1).ravel()
    labels = np.tile(np.arange(1 + settings.negatives) == 0, len(rows)).astype(np.float32)
    shoppers = np.repeat(rows, 1 + settings.negatives)
    shuffled = np.lexsort((random.random(len(shoppers)), shoppers))
    first = np.searchsorted(shoppers, np.arange(positives.shape[0]))
    place = np.arange(len(shoppers)) - first[shoppers]
    keys, pair = np.unique(shoppers * positives.shape[1] + items[shuffled], return_inverse=True)
    owners, items = np.divmod(keys, positives.shape[1])
    return _Samples(shoppers, pair, labels[shuffled], place // settings.batch, owners, items)


def _trained(state: _State, samples: _Samples, settings: Settings) -> Array:
    """Train every shopper's score function in `state` and its item rows, which are returned: (pairs, dim)."""
    local = state.items[samples.items]
    item_rate = settings.rate * settings.item_rate * len(state.items)
    for chosen in samples.steps():
        shoppers, pair, labels = samples.shoppers[chosen], samples.pair[chosen], samples.labels[chosen]
        starts = np.flatnonzero(np.diff(shoppers, prepend=-1))
        active, rows = shoppers[starts], local[pair]
        counts = np.diff(starts, append=len(shoppers))
        sizes = np.repeat(counts, counts)
        error = (special.expit(state.scores(rows, shoppers)) - labels) / sizes
        state.w[active] -= settings.rate * np.add.reduceat(rows * error[:, None], starts)
        state.b[active] -= settings.rate * np.add.reduceat(error, starts)
        error = (special.expit(state.scores(rows, shoppers)) - labels) / sizes
        slope = np.bincount(pair, weights=error, minlength=len(local)).astype(np.float32)
        moved = np.flatnonzero(slope)
        local[moved] -= item_rate * slope[moved, None] * state.w[samples.owners[moved]]
    return local


def _mean_change(samples: _Samples, change: Array, items: int, people: int) -> Array:
    """Return the mean over all shoppers of the change of each item row: (items, dim)."""
    share = np.full(len(change), 1.0 / people, dtype=np.float32)
    spread = sp.csr_matrix((share, (samples.items, np.arange(len(change)))), shape=(items, len(change)))
    return np.asarray(spread @ change, dtype=np.float32)
