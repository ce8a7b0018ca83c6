"""iALS, implicit-feedback matrix factorisation (Hu, Koren, Volinsky 2008), from the package `implicit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from implicit.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from evaluation.baselines import best_of
from evaluation.metrics import Indices, Scores
from evaluation.protocol import Scorer
from evaluation.split import Split


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyper-parameters in the words of `implicit`."""

    factors: int
    regularization: float
    alpha: float  # weight of a positive pair; a missing one weighs 1


_WEIGHTS = tuple(
    Settings(factors=64, regularization=regularization, alpha=alpha)
    for alpha, regularization in (
        (2.0, 10.0),
        (1.0, 10.0),
        (5.0, 30.0),
        (10.0, 30.0),
        (10.0, 100.0),
        (40.0, 10.0),
    )
)
_FACTORS = (64, 128, 256)
_SWEEPS = 15


def ials(split: Split, seed: int) -> Scorer:
    """Factors of the binary matrix of positive pairs.

    Weights first and then the number of factors are chosen on a validation cut of train (9 fits); the winner
    is fitted anew on all of train.
    """

    def fitter(inner: Split) -> Callable[[Settings], Scorer]:
        return lambda settings: _fit(inner, settings, seed)

    weights = best_of(_WEIGHTS, fitter, split, seed)
    sizes = [
        Settings(factors=factors, regularization=weights.regularization, alpha=weights.alpha)
        for factors in _FACTORS
    ]
    return _fit(split, best_of(sizes, fitter, split, seed), seed)


def _fit(split: Split, settings: Settings, seed: int) -> Scorer:
    """One model, on one thread: those of BLAS and of `implicit` wait for each other wherever a core is busy."""
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=_SWEEPS,
            num_threads=1,
            random_state=seed,
        )
        model.fit(split.positives, show_progress=False)
    users, items = model.user_factors, model.item_factors

    def score(shoppers: Indices) -> Scores:
        scores: Scores = users[shoppers] @ items.T
        return scores

    return score
