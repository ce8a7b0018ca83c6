"""Fills a list place by place: quotas hold before floors, and floors before diversity.

Diversity is maximal marginal relevance (Carbonell & Goldstein 1998): the value of an item less its cosine to the
nearest item above. A floor holds in every beginning of the list as well (ranked group fairness, Zehlike et al.
2017), so that its items are not all put at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_ROUNDING = 1e-9
"""Keeps 0.1 * 30 from asking for four items."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """At most `most` items of one code; `codes` (n,) of the candidates."""

    name: str
    codes: npt.NDArray[np.int32]
    most: int


@dataclass(frozen=True, kw_only=True)
class Floor:
    """At least `share` of the list, and of each beginning of it rounded down, from `members` (n,)."""

    name: str
    members: Bools
    share: float

    def least(self, places: int) -> int:
        """How many of a whole list of so many places."""
        return math.ceil(self.share * places - _ROUNDING)

    def due(self, places: int) -> int:
        """How many of the first `places` of a list."""
        return math.floor(self.share * places + _ROUNDING)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The quotas and floors of one list."""

    quotas: list[Quota]
    floors: list[Floor]


class Filling:
    """One list in the making."""

    def __init__(self, values: Floats, rules: Rules, diversity: float, units: Floats | None) -> None:
        """Begin with no place filled.

        Args:
            values: (n,) what orders the candidates, 0 to 1 and the bonus of fairness.
            diversity: share of likeness in the value.
            units: (n, dim) vectors of length 1; needed with diversity.
        """
        self.notices: list[str] = []
        self._values = (1 - diversity) * values
        self._open = self._values.copy()  # -inf where listed or above a quota
        self._quotas, self._floors = rules.quotas, rules.floors
        self._limits = [quota.most for quota in rules.quotas]
        self._diversity, self._units = diversity, units
        self._nearest = np.full(len(values), -1.0, dtype=np.float32)

    def fill(self, k: int) -> Ints:
        """The candidates of the list, best place first, (min(k, n),)."""
        k = min(k, len(self._values))
        listed: list[int] = []
        have = [0] * len(self._floors)
        while len(listed) < k:
            best = self._best(self._due(have, len(listed), k))
            if best is None:
                self._relax(listed)
                continue
            listed.append(best)
            have = [n + bool(floor.members[best]) for n, floor in zip(have, self._floors, strict=True)]
            self._take(best, listed)
        self._note(have, k)
        return np.array(listed, dtype=np.int64)

    def _due(self, have: list[int], filled: int, k: int) -> Bools | None:
        """Members of the floors that the next place must serve; None where it is free."""
        missing = [max(floor.least(k) - n, 0) for floor, n in zip(self._floors, have, strict=True)]
        last = sum(missing) >= k - filled
        due = [
            floor.members
            for floor, n, more in zip(self._floors, have, missing, strict=True)
            if n < floor.due(filled + 1) or (last and more)
        ]
        return None if not due else due[0] if len(due) == 1 else due[0] | due[1]

    def _best(self, due: Bools | None) -> int | None:
        """The best open candidate, of `due` where one is open; None where all are listed or above a quota."""
        worth = self._open - self._diversity * self._nearest if self._diversity else self._open
        if due is not None:
            best = int(np.where(due, worth, -np.inf).argmax())
            if due[best] and worth[best] > -np.inf:
                return best
        best = int(worth.argmax())
        return best if worth[best] > -np.inf else None

    def _take(self, best: int, listed: list[int]) -> None:
        self._open[best] = -np.inf
        for quota, most in zip(self._quotas, self._limits, strict=True):
            code = quota.codes[best]
            if (quota.codes[listed] == code).sum() >= most:
                self._open[quota.codes == code] = -np.inf
        if self._diversity and self._units is not None:
            np.maximum(self._nearest, self._units @ self._units[best], out=self._nearest)

    def _relax(self, listed: list[int]) -> None:
        """Let every quota rise by one: the candidates cannot fill the list otherwise."""
        self._limits = [most + 1 for most in self._limits]
        self._open = self._values.copy()
        self._open[listed] = -np.inf
        for quota, most in zip(self._quotas, self._limits, strict=True):
            full = np.bincount(quota.codes[listed], minlength=int(quota.codes.max()) + 1) >= most
            self._open[full[quota.codes]] = -np.inf

    def _note(self, have: list[int], k: int) -> None:
        self.notices += [
            f"{quota.name} was relaxed from {quota.most} to {limit}: the candidates could not fill the list otherwise"
            for quota, limit in zip(self._quotas, self._limits, strict=True)
            if limit > quota.most
        ]
        self.notices += [
            f"{floor.name} asks for {floor.least(k)} of {k} items; the candidates gave {n}"
            for floor, n in zip(self._floors, have, strict=True)
            if n < floor.least(k)
        ]


def within(quotas: list[Quota], listed: Ints, pool: Ints) -> Ints:
    """The members of `pool`, in order, any of which may replace any of `listed` with every quota kept."""
    for quota in quotas:
        free = quota.most - np.bincount(quota.codes[listed], minlength=int(quota.codes.max()) + 1)
        codes = quota.codes[pool]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], codes[order])
        nth = np.empty(len(pool), dtype=np.int64)
        nth[order] = np.arange(len(pool)) - starts
        pool = pool[nth < free[codes]]
    return pool


def needed(floors: list[Floor], listed: Ints) -> Bools:
    """Which places of a list its floors need, (k,): the first members of each, as many as it asks for."""
    fixed = np.zeros(len(listed), dtype=np.bool_)
    for floor in floors:
        fixed[np.flatnonzero(floor.members[listed])[: floor.least(len(listed))]] = True
    return fixed
