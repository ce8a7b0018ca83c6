"""Exposure of merchants against their merit, carried from ranking to ranking.

A list gives one unit of attention, split over its places as 1 / log2(1 + rank) (Singh & Joachims 2018, fairness of
exposure). The same unit of merit is split over the candidates by relevance. What a merchant was owed and did not
get is carried on (Biega, Gummadi & Weikum 2018, equity of attention: amortised over a sequence of rankings) and
raises its items in the next list, as a controller does (Morik, Singh, Hong & Joachims 2020, FairCo).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Numbers = npt.NDArray[np.float64]

HALF_LIFE = 10_000
"""After so many rankings an old debt counts half: merchants and tastes change."""
_KEPT = 0.5 ** (1 / HALF_LIFE)


def attention(places: int) -> Numbers:
    """What each place of a list gets of one unit of attention, (places,)."""
    shares = 1 / np.log2(np.arange(2, places + 2))
    return np.asarray(shares / max(shares.sum(), 1e-12))


class Exposure:
    """What each merchant is owed, in lists' worth of attention; of one process, and used from one thread."""

    def __init__(self) -> None:
        """Owe nobody anything."""
        self._merchants: list[str] = []
        self._debts: Numbers = np.zeros(0)

    def debts(self, merchants: list[str]) -> Numbers:
        """What each of `merchants` is owed, (merchants,): merit less exposure; below 0 who got too much.

        `merchants` are the names behind a snapshot's merchant codes; a change of the catalogue leaves each its debt.
        """
        if merchants is not self._merchants:
            old = dict(zip(self._merchants, self._debts.tolist(), strict=True))
            self._debts = np.array([old.get(name, 0.0) for name in merchants])
            self._merchants = merchants
        return self._debts

    def record(
        self, merchants: list[str], candidates: Ints, relevance: npt.NDArray[np.floating], listed: Ints
    ) -> None:
        """Add one ranking.

        `candidates` (n,) and `listed` (k,) are merchant codes, the list best first; `relevance` (n,) is at least 0
        and not all 0.
        """
        debts = self.debts(merchants)
        debts *= _KEPT
        debts += np.bincount(candidates, relevance / relevance.sum(), len(debts))
        debts -= np.bincount(listed, attention(len(listed)), len(debts))
