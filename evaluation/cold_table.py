"""All models on items absent from train, over all folds: what a bench or a report prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from evaluation.baselines import popularity
from evaluation.cold_items import FOLDS, Candidates, ColdCut, cold_cut, judged, pooled
from evaluation.cold_models import ContentTower, category_popularity
from evaluation.linear import content_only
from evaluation.protocol import Result, Scorer
from model.catalogue import PublicItems
from privacy.accountant import mu_of
from privacy.mechanism import SeededNoise
from simulation.data.dataset import Dataset

POPULARITY = "popularity"
CATEGORY = "category popularity"
NEIGHBOURS = "content nearest neighbours"
CONTENT = "content tower, nothing learned"
NO_DP = "federated, no DP"
PRIVATE = "federated, private"


def cold_table(
    dataset: Dataset,
    catalogue: PublicItems,
    features: sp.csr_matrix,
    *,
    epsilon: float,
    delta: float,
    candidates: Candidates,
    seed: int = 0,
) -> dict[str, Result]:
    """Return each model's pooled result; two of them can be compared with `protocol.paired_difference`.

    Args:
        catalogue: the public items, in the order of `dataset.items`.
        features: (items, columns) of one content encoder, used by all content models alike.
        epsilon, delta: total budget of the private model, of which it spends COUNT_SHARE + COMPANION_SHARE.
        seed: of the noise, a new one in each fold.
    """
    tower = ContentTower.of(features)
    mu2 = mu_of(epsilon, delta) ** 2
    cuts = [cold_cut(dataset, fold) for fold in range(FOLDS)]
    kinds = [
        category or brand
        for category, brand in zip(catalogue.columns.categories, catalogue.columns.brands, strict=True)
    ]
    found: dict[str, list[Result]] = {}
    for fold, cut in enumerate(cuts):
        for name, scorer in _models(cut, tower, kinds, mu2, seed * FOLDS + fold).items():
            found.setdefault(name, []).append(judged(name, scorer, cut, candidates))
    return {name: pooled(results, [cut.split for cut in cuts]) for name, results in found.items()}


def _models(
    cut: ColdCut, tower: ContentTower, kinds: Sequence[str | None], mu2: float, seed: int
) -> dict[str, Scorer]:
    return {
        POPULARITY: popularity(cut.split, seed),
        CATEGORY: category_popularity(cut, kinds),
        NEIGHBOURS: content_only(cut.split, tower.features, seed),
        CONTENT: _learned(cut, tower, np.inf, seed, strength=0.0),
        NO_DP: _learned(cut, tower, np.inf, seed),
        PRIVATE: _learned(cut, tower, mu2, seed),
    }


def _learned(
    cut: ColdCut, tower: ContentTower, mu2: float, seed: int, strength: float | None = None
) -> Scorer:
    """Return the tower after a release; its strength is chosen on validation, under noise of its own."""
    released = tower.release(cut, mu2, SeededNoise(2 * seed))
    if strength is None:
        inner = cut.validation()
        strength = tower.choose(tower.release(inner, mu2, SeededNoise(2 * seed + 1)), inner)
    return tower.scorer(released, cut, strength)
