"""The models that are asked for cold items: a ranker without content, and the content tower of a federation.

The content tower is the two towers with the start of `model/content_basis.py`: cosines of public content, to which
head items add what the released sums say goes with them. How much of it they add is chosen on a validation cut of
train, under the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from client.contribution import count_share
from evaluation.cold_items import ColdCut, recall
from evaluation.metrics import Floats, Indices, Scores
from evaluation.protocol import Scorer
from evaluation.towers import pooled_shoppers, tower_scorer
from model.content_basis import companion_share, companions, content_rows, directions
from model.schema import Schema, Weights
from privacy.mechanism import GaussianSum, Mechanism, NoiseSource, UnprotectedSum

CONTENT_DIM = 512
STRENGTHS = (0.0, 0.15, 0.3, 0.6)
"""Candidates for how much of its companions' content a head item takes on; 0 learns nothing."""
COUNT_SHARE = 0.10
COMPANION_SHARE = 0.75
"""Shares of mu^2, as counts and Gram have; what is left is for the other stages of a run."""
NOISY_HEAD, NOISY_DIRECTIONS = 300, 32
EXACT_DIRECTIONS = 64
"""Chosen on validation cuts of train; without noise all known items are head items."""
SMOOTHING = 5.0
"""Items at the mean that are added to each category's items."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Released:
    """What a federation has told about a cut.

    Attributes:
        head: (m,) the items that the release is about.
        counts: (m,) their counts.
        total: (m, d) the sum of companion shares.
        noise_std: of the noise in each entry of `total`.
    """

    head: Indices
    counts: Floats
    total: Floats
    noise_std: float


def category_popularity(cut: ColdCut, categories: Sequence[str | None]) -> Scorer:
    """Every item gets the mean audience, in shoppers, of the known items of its category (or brand)."""
    audience = np.bincount(cut.split.positives.indices, minlength=len(cut.split.items)).astype(np.float64)
    _, kinds = np.unique(np.array([value or "" for value in categories]), return_inverse=True)
    known = np.bincount(kinds, cut.known.astype(np.float64))
    total = np.bincount(kinds, audience * cut.known)
    mean = audience[cut.known].mean()
    score = ((total + SMOOTHING * mean) / (known + SMOOTHING))[kinds]

    def scores(shoppers: Indices) -> Scores:
        return np.broadcast_to(score, (shoppers.size, score.size))

    return scores


@dataclass(frozen=True, eq=False)
class ContentTower:
    """Public features with their leading directions, ready to take a release up."""

    features: sp.csr_matrix
    directions: npt.NDArray[np.float64]
    content: Floats

    @classmethod
    def of(cls, features: sp.csr_matrix) -> ContentTower:
        """Find the directions of the features (items, columns), at most CONTENT_DIM."""
        found = directions(features, min(CONTENT_DIM, *features.shape))
        return cls(features, found, content_rows(features, found))

    def release(self, cut: ColdCut, mu2: float, noise: NoiseSource) -> Released:
        """Release counts and companions of a cut's shoppers for the price of shares of `mu2`; infinite: exact."""
        shoppers, items = pooled_shoppers(cut.split), len(cut.split.items)
        of_counts, of_companions = (_sum(mu2 * share, noise) for share in (COUNT_SHARE, COMPANION_SHARE))
        counts = of_counts.release(count_share(shoppers, items, of_counts.clipping_norm))
        known = np.flatnonzero(cut.known)
        exact = np.isinf(mu2)
        head = known[np.argsort(-counts[known], kind="stable")[: len(known) if exact else NOISY_HEAD]]
        axes = self.content[:, : EXACT_DIRECTIONS if exact else NOISY_DIRECTIONS]
        liked = shoppers.incidence(np.arange(items), items)
        total = companion_share(liked, head, axes, of_companions.clipping_norm)
        return Released(
            head=head,
            counts=counts[head],
            total=of_companions.release(total),
            noise_std=of_companions.noise_std,
        )

    def weights(self, released: Released, strength: float) -> Weights:
        """Return the two towers: directions as content table, companions in the ID embeddings of head items."""
        items, columns = self.features.shape
        weights = Schema(items=items, content_features=columns, dim=self.content.shape[1]).zeros()
        rows = np.asarray(self.features @ self.directions)
        size = np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean()
        weights["content"] = (self.directions / size).astype(np.float32)
        weights["item_id"][:] = -rows.mean(axis=0) / size
        width = released.total.shape[1]
        own = self.content[released.head, :width]
        added = companions(released.total, own, released.counts, released.noise_std)
        weights["item_id"][released.head, :width] += (strength * added).astype(np.float32)
        weights["gain"][:] = 1.0
        return weights

    def scorer(self, released: Released, cut: ColdCut, strength: float) -> Scorer:
        """Return the scorer of these towers; user embeddings are computed from local histories."""
        return tower_scorer(self.weights(released, strength), self.features, cut.split)

    def choose(self, released: Released, cut: ColdCut) -> float:
        """Return the strength with the best recall@50 on a validation cut; of equals, the smallest."""
        return max(STRENGTHS, key=lambda strength: self._value(released, cut, strength))

    def _value(self, released: Released, cut: ColdCut, strength: float) -> float:
        return recall(self.scorer(released, cut, strength), cut)


def _sum(mu2: float, noise: NoiseSource) -> Mechanism:
    """Return a sum of shares of norm 1 at the price of `mu2`."""
    if np.isinf(mu2):
        return UnprotectedSum(clipping_norm=1.0)
    return GaussianSum(clipping_norm=1.0, noise_multiplier=mu2**-0.5, noise=noise)
