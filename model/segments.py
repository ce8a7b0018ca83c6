"""Segments: groups of items that lie together in a released model, each named by what it mostly holds.

Spherical k-means (Dhillon & Modha 2001) over item vectors that are public already: no shopper's data is read, so it
costs no budget. A device or a shop names a segment by its number instead of telling a history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SEGMENTS = 24
"""How many segments a large catalogue has."""
ITEMS_PER_SEGMENT = 20
"""A small catalogue has fewer segments: at least so many items for each."""
SAMPLE = 20_000
"""Items that the segments are found on; of a larger catalogue an even share."""
STEPS = 12

_UNNAMED = "other items"


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments of one catalogue.

    Attributes:
        centres: (s, dim) float32 mean of the item vectors of each, the largest segment first.
        names: (s,) the category that most of its items have, numbered where two segments share it.
        sizes: (s,) items of each; of a catalogue larger than `SAMPLE` about so many.
        quality: -1 to 1, the mean simplified silhouette: how much nearer items lie to their own centre than to
            the next.
    """

    centres: Floats
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    quality: float

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.names)


def find_segments(vectors: Floats, categories: Sequence[str], *, seed: int = 0) -> Segments:
    """Return the segments of items with these vectors (items, dim) and categories; the same for the same seed.

    Items whose vector is zero belong nowhere. A catalogue of fewer items than one segment wants has one.
    """
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(np.int64)
    share = len(rows) / max(len(vectors), 1)
    rows = rows[np.any(vectors[rows] != 0, axis=1)]
    sample = np.asarray(vectors[rows], dtype=np.float32)
    if not len(sample):
        nowhere = np.zeros((1, vectors.shape[1]), np.float32)
        return Segments(centres=nowhere, names=(_UNNAMED,), sizes=(0,), quality=0.0)
    units = sample / np.linalg.norm(sample, axis=1, keepdims=True)
    count = max(1, min(SEGMENTS, len(units) // ITEMS_PER_SEGMENT))
    labels = _clusters(units, count, np.random.default_rng(seed))
    quality = _silhouette(units, labels)
    order = np.argsort(-np.bincount(labels), kind="stable")
    members = [rows[labels == label] for label in order if (labels == label).any()]
    return Segments(
        centres=np.stack([vectors[own].mean(axis=0) for own in members]).astype(np.float32),
        names=_numbered([_dominant(own, categories) for own in members]),
        sizes=tuple(round(len(own) / share) for own in members),
        quality=quality,
    )


def _clusters(units: Floats, count: int, random: np.random.Generator) -> Ints:
    """Return the cluster of each unit vector; a cluster that has lost its members may stay empty."""
    centres = _start(units, count, random)
    labels = (units @ centres.T).argmax(axis=1)
    for _ in range(STEPS):
        centres = _centres(units, labels, centres)
        labels = (units @ centres.T).argmax(axis=1)
    return np.asarray(labels, dtype=np.int64)


def _start(units: Floats, count: int, random: np.random.Generator) -> Floats:
    """Return starting centres far from each other (k-means++, Arthur & Vassilvitskii 2007)."""
    chosen = [int(random.integers(len(units)))]
    distances = np.full(len(units), np.inf)
    while len(chosen) < count:
        distances = np.minimum(distances, np.maximum(1.0 - units @ units[chosen[-1]], 0.0))
        total = float(distances.sum())
        if total <= 0:
            break
        chosen.append(int(random.choice(len(units), p=distances / total)))
    return units[chosen]


def _centres(units: Floats, labels: Ints, before: Floats) -> Floats:
    """Return the directions of the clusters' means; one without members stays where it was."""
    sums = np.zeros_like(before)
    np.add.at(sums, labels, units)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1.0), before).astype(np.float32)


def _silhouette(units: Floats, labels: Ints) -> float:
    """Return the mean of (b - a) / max(a, b), the cosine distances to the own (a) and the next centre (b)."""
    present, labels = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return 0.0
    centres = _centres(units, labels, np.zeros((len(present), units.shape[1]), np.float32))
    distances = 1.0 - units @ centres.T
    rows = np.arange(len(units))
    own = distances[rows, labels].copy()
    distances[rows, labels] = np.inf
    other = distances.min(axis=1)
    return float(np.mean((other - own) / np.maximum(np.maximum(own, other), 1e-9)))


def _dominant(items: Ints, categories: Sequence[str]) -> str:
    """Return the commonest category of some items, the first in the alphabet among equals."""
    counts = Counter(categories[item] for item in items.tolist() if categories[item])
    return min(counts, key=lambda name: (-counts[name], name)) if counts else _UNNAMED


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with a number behind the second and later uses of one."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(numbered)
