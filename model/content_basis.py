"""Items that nobody has bought yet find their place through public content and one small release.

Let F be the public features and Q their leading directions. The rows b_i = (F Q)_i, less their mean, keep the cosines
of the content, and that affinity costs nothing. What content alone does not know is what goes with what. So each
shopper with history x tells y z^T / (|y| |z|), where y = x on the head items and z = B^T x is the content of the
history in the d strongest directions: a rank-one share of norm 1, (m, d). The noise in a row has length s sqrt(d),
whatever the size of the catalogue, against s sqrt(m / 2) in a row of the items' own Gram.

A row of the sum is, up to scale, the content that the buyers of that item like. Its part along the item's own
content says nothing new and is left out; the rest is shrunk for the noise (James & Stein 1961) and added to the
item's vector, so a history looks for what goes with it. A new item's vector is its content.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from model.errors import ShapeError

Array = NDArray[np.float64]

OVERSAMPLING = 32
POWER_STEPS = 3
LEAST_COUNT = 1.0
"""Counts below this are taken for this much."""


def directions(features: sp.csr_matrix, dim: int, seed: int = 0) -> Array:
    """Return Q (columns, dim), orthonormal, strongest first: the leading directions of features (items, columns).

    Products of rows of F Q are close to those of F. By randomised subspace iteration (Halko, Martinsson & Tropp
    2011) with a public seed; the largest entry of each direction is positive.

    Raises:
        ShapeError: there are fewer items or columns than directions.
    """
    if not 1 <= dim <= min(features.shape):
        raise ShapeError(
            f"{dim} content directions were asked for, features of {features.shape[0]} items and "
            f"{features.shape[1]} columns have 1 to {min(features.shape)}; ask for fewer"
        )
    width = min(dim + OVERSAMPLING, *features.shape)
    sketch = features.T @ np.random.default_rng(seed).standard_normal((features.shape[0], width))
    for _ in range(POWER_STEPS):
        sketch = features.T @ (features @ _orthonormal(sketch))
    basis = _orthonormal(sketch)
    inside = features @ basis
    found = basis @ scipy.linalg.eigh(inside.T @ inside)[1][:, ::-1][:, :dim]
    largest = found[np.abs(found).argmax(axis=0), np.arange(dim)]
    return np.asarray(found * np.where(largest < 0, -1.0, 1.0), dtype=np.float64)


def content_rows(features: sp.csr_matrix, found: Array) -> Array:
    """Return b_i for all items, (items, dim): F Q less its mean over the catalogue, of mean length 1."""
    rows = np.asarray(features @ found, dtype=np.float64)
    rows -= rows.mean(axis=0)
    return np.asarray(rows / max(float(np.linalg.norm(rows, axis=1).mean()), 1e-12))


def companion_share(
    liked: sp.csr_matrix, head: NDArray[np.int64], content: Array, clipping_norm: float
) -> Array:
    """Return sum over shoppers of C y z^T / (|y| |z|), (len(head), d); each share has norm C, or is zero.

    Args:
        liked: (shoppers, items) ones where a shopper liked an item.
        head: (m,) catalogue indices of the rows.
        content: (items, d) the first d columns of `content_rows`.
    """
    history = np.asarray(liked @ content)
    inside = sp.csr_matrix(liked[:, head])
    lengths = np.sqrt(np.asarray(inside.sum(axis=1), dtype=np.float64).ravel())
    lengths = lengths * np.linalg.norm(history, axis=1)
    scale = np.divide(clipping_norm, lengths, out=np.zeros_like(lengths), where=lengths > 1e-9)
    return np.asarray(inside.T @ (history * scale[:, None]))


def companions(total: Array, own: Array, counts: Array, noise_std: float) -> Array:
    """Return what goes with each head item as content to add to its own, (m, d); the mean length is 1.

    Args:
        total: (m, d) the released sum of `companion_share`.
        own: (m, d) the head items' rows of content.
        counts: (m,) their released counts.
        noise_std: of the noise in each entry of `total`.
    """
    squares = np.maximum((total**2).sum(axis=1), 1e-300)
    shrunk = total * np.maximum(0.0, 1.0 - noise_std**2 * total.shape[1] / squares)[:, None]
    unit = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    other = shrunk - (shrunk * unit).sum(axis=1, keepdims=True) * unit
    other = other / np.maximum(counts, LEAST_COUNT)[:, None]
    lengths = np.linalg.norm(other, axis=1)
    heard = lengths > 0
    return np.asarray(other / lengths[heard].mean() if heard.any() else other)


def _orthonormal(sketch: Array) -> Array:
    return np.asarray(scipy.linalg.qr(sketch, mode="economic")[0])
