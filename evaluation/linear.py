"""Linear item-item models: EASE in two scalings, and a floor that learns nothing.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data"): with P = (A^T A + lambda I)^-1, the weights
B = I - P diag(1 / diag P) reproduce each column of A from the others; the diagonal of B is zero. A has one row per
shopper: the binary row x itself, or x / |x|, which gives every shopper the same say in the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from evaluation.baselines import best_of
from evaluation.errors import ProtocolError
from evaluation.metrics import Floats, Indices, Scores
from evaluation.protocol import Scorer
from evaluation.split import Csr, Split

RAW_RIDGES = (300.0, 100.0, 1000.0, 30.0)
"""Candidates of lambda for the raw Gram, in shoppers; the first is the default."""
NORMALISED_RIDGES = (5.0, 2.0, 10.0, 20.0)
"""Candidates for the user-normalised Gram, whose trace is the number of shoppers."""
LARGEST = 12_000
"""Most shoppers or items, whichever are fewer: the square of it is held dense."""


def ease(split: Split, seed: int) -> Scorer:
    """EASE on the raw Gram; lambda is chosen on a validation cut of train."""
    return _best(split, seed, _raw, RAW_RIDGES)


def ease_normalised(split: Split, seed: int) -> Scorer:
    """EASE on the Gram of rows of unit length; lambda is chosen on a validation cut of train."""
    return _best(split, seed, unit_rows, NORMALISED_RIDGES)


def content_only(split: Split, features: Csr, seed: int) -> Scorer:
    """Cosine between an item and the mean of the shopper's items in public `features` (items, columns).

    Nothing is learnt and nothing leaves a shopper: whatever spends budget has to beat it. An item without features
    scores 0. (The seed is not needed.)
    """
    del seed
    vectors = unit_rows(features)

    def score(shoppers: Indices) -> Scores:
        return (unit_rows(split.positives[shoppers] @ vectors) @ vectors.T).toarray()

    return score


def ease_scorer(rows: Csr, histories: Csr, ridge: float) -> Scorer:
    """Return `histories` (shoppers, items) times the weights B that are learnt from A = `rows`.

    With fewer shoppers than items, P = (I - A^T (A A^T + lambda I)^-1 A) / lambda, so that the smaller side is the
    one that is inverted.

    Raises:
        ProtocolError: both sides are longer than LARGEST.
    """
    if min(rows.shape) > LARGEST:
        raise ProtocolError(
            f"EASE of {rows.shape[0]} shoppers and {rows.shape[1]} items would hold the square of the smaller "
            f"number, which may be at most {LARGEST}; leave this baseline out"
        )
    with threadpool_limits(limits=1, user_api="blas"):
        times_inverse, diagonal = (
            _by_items(rows, ridge) if rows.shape[1] <= rows.shape[0] else _by_shoppers(rows, ridge)
        )

    def score(shoppers: Indices) -> Scores:
        mine = histories[shoppers]
        found: Scores = mine.toarray() - times_inverse(mine) / diagonal
        return found

    return score


def unit_rows(matrix: Csr) -> Csr:
    """Return the rows scaled to unit length; an empty row stays empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = (1.0 / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return sp.csr_matrix(sp.diags(scale) @ matrix)


def _raw(matrix: Csr) -> Csr:
    return matrix


def _best(split: Split, seed: int, scaled: Callable[[Csr], Csr], ridges: tuple[float, ...]) -> Scorer:
    """Choose lambda on a validation cut and learn from all of train."""

    def fitter(inner: Split) -> Callable[[float], Scorer]:
        return lambda ridge: ease_scorer(scaled(inner.positives), inner.positives, ridge)

    return fitter(split)(best_of(ridges, fitter, split, seed))


_Product = Callable[[Csr], Floats]


def _by_items(rows: Csr, ridge: float) -> tuple[_Product, Floats]:
    """Return x -> x P and the diagonal of P, from the inverse of an (items, items) matrix."""
    inverse = _inverse(sp.csr_matrix(rows.T @ rows), ridge)
    return (lambda x: np.asarray(x @ inverse)), np.diag(inverse).copy()


def _by_shoppers(rows: Csr, ridge: float) -> tuple[_Product, Floats]:
    """Return x -> x P and the diagonal of P, from the inverse of a (shoppers, shoppers) matrix."""
    solved = np.asarray(_inverse(sp.csr_matrix(rows @ rows.T), ridge) @ rows)  # (shoppers, items)
    explained = np.asarray(rows.multiply(solved).sum(axis=0)).ravel()

    def times(x: Csr) -> Floats:
        return np.asarray((x.toarray() - (x @ rows.T) @ solved) / ridge)

    return times, (1.0 - explained) / ridge


def _inverse(gram: Csr, ridge: float) -> npt.NDArray[np.float64]:
    """Return (gram + ridge I)^-1 densely."""
    full = gram.toarray().astype(np.float64)
    full[np.diag_indices_from(full)] += ridge
    return np.asarray(np.linalg.inv(full))
