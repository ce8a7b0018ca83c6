"""The head of the catalogue: the popular items whose co-occurrence is learned, and the axes it is measured in.

A history is read as y = E x - (q . E x) q: x marks the liked head items, E divides each by its popularity^0.2, and
q is the direction in which histories differ by size alone. Both come from counts that have been released, so
they cost nothing; without them a share of bounded length would spend itself on what the counts have told
already (measured in docs/adr/0013).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from model.errors import FeatureError

DAMPING = 0.2
"""Exponent that takes some of the popularity out of a history: an item counts popularity^-0.2."""


def triangle(side: int) -> int:
    """Return the number of entries of an upper triangle with its diagonal."""
    return side * (side + 1) // 2


class Basis(StrEnum):
    """In which axes histories are compared: single head items, or directions of public content over all items."""

    ITEMS = "items"
    CONTENT = "content"


@dataclass(frozen=True)
class Head:
    """Head items with their popularity.

    Attributes:
        items: (m,) catalogue indices.
        popularity: (m,) positive released counts, in any unit.
    """

    items: NDArray[np.int64]
    popularity: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse a popularity that no scale can be taken from."""
        if self.items.shape != self.popularity.shape:
            raise FeatureError(
                f"the head has {len(self.items)} items and {len(self.popularity)} popularities"
            )
        if not (np.isfinite(self.popularity).all() and (self.popularity > 0).all()):
            raise FeatureError(
                "a head item has a popularity that is not positive and finite; floor the counts"
            )

    def __len__(self) -> int:
        """Return the number of head items."""
        return len(self.items)

    @property
    def scale(self) -> NDArray[np.float64]:
        """Diagonal of E, (m,)."""
        return np.asarray(self.popularity**-DAMPING)

    @property
    def popular(self) -> NDArray[np.float64]:
        """The unit vector q, (m,): what an average shopper likes.

        Of length 1 to the last digits whatever the unit of the popularity, since lengths are told by it.
        """
        direction = (self.popularity / self.popularity.max(initial=1e-300)) ** (1.0 - DAMPING)
        return np.asarray(direction / max(float(np.linalg.norm(direction)), 1e-300))

    def at(self, positions: NDArray[np.int64]) -> Head:
        """Return the head cut to some positions."""
        return Head(self.items[positions], self.popularity[positions])

    def popular_strength(self, shoppers: int) -> float:
        """Return a lower bound of the second moment along q, in shoppers, from popularity in units of counts.

        The counts are sums of x / |x|; by Jensen their squared length over N bounds the moment from below.
        """
        typical = float((self.popularity * self.scale**2).sum() / max(float(self.popularity.sum()), 1e-300))
        direction = self.popularity * self.scale / np.sqrt(max(typical, 1e-300))
        return float(direction @ direction) / shoppers
