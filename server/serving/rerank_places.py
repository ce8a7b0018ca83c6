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
_OUT = -math.inf
"""The value of what is listed already or above a quota."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """At most `most` items of one code; `codes` (n,) of the candidates, from 0."""

    name: str
    codes: npt.NDArray[np.int32]
    most: int

    def counts(self, listed: Ints) -> Ints:
        """How many of the listed candidates have each code, (codes,)."""
        return np.bincount(self.codes[listed], minlength=int(self.codes.max()) + 1)

    def holds(self, listed: Ints) -> bool:
        """Whether a list keeps the quota."""
        return bool(np.bincount(self.codes[listed]).max() <= self.most)


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

    def holds(self, listed: Ints) -> bool:
        """Whether a list and each beginning of it keep the floor."""
        have = np.cumsum(self.members[listed])
        due = np.floor(self.share * np.arange(1, len(listed) + 1) + _ROUNDING)
        return bool(have[-1] >= self.least(len(listed)) and (have >= due).all())


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The quotas and floors of one list."""

    quotas: list[Quota]
    floors: list[Floor]

    def hold(self, listed: Ints) -> bool:
        """Whether a list keeps all of them."""
        return all(quota.holds(listed) for quota in self.quotas) and all(
            floor.holds(listed) for floor in self.floors
        )


class Filling:
    """One list in the making, place by place."""

    def __init__(self, values: Floats, rules: Rules, diversity: float, units: Floats | None) -> None:
        """Begin with no place filled.

        Args:
            values: (n,) what orders the candidates before likeness counts.
            rules: the quotas and floors to keep.
            diversity: share of likeness in the value.
            units: (n, dim) vectors of length 1; needed with diversity.
        """
        self.notices: list[str] = []
        self._values = values
        self._open = values.copy()
        self._quotas, self._floors = rules.quotas, rules.floors
        self._limits = [quota.most for quota in rules.quotas]
        self._counts: list[dict[int, int]] = [{} for _ in rules.quotas]
        self._have = [0] * len(rules.floors)
        self._diversity, self._units = diversity, units
        self._nearest = np.full(len(values), -1.0, dtype=np.float32)

    def fill(self, k: int) -> Ints:
        """The candidates of the list, best place first, (min(k, n),)."""
        k = min(k, len(self._values))
        listed: list[int] = []
        while len(listed) < k:
            best = self._best(self._due(len(listed), k))
            if best is None:
                self._relax(listed)
            else:
                listed.append(best)
                self._take(best)
        self._note(k)
        return np.array(listed, dtype=np.int64)

    def _due(self, filled: int, k: int) -> list[Floor]:
        """The floors that the next place must serve, if it can."""
        if not self._floors:
            return []
        missing = [floor.least(k) - n for floor, n in zip(self._floors, self._have, strict=True)]
        last = sum(n for n in missing if n > 0) >= k - filled
        return [
            floor
            for floor, n, more in zip(self._floors, self._have, missing, strict=True)
            if n < floor.due(filled + 1) or (last and more > 0)
        ]

    def _best(self, due: list[Floor]) -> int | None:
        """The best open candidate, of a floor that is due where one is open; None where none is open."""
        worth = self._open - self._diversity * self._nearest if self._diversity else self._open
        if due:
            members = due[0].members if len(due) == 1 else np.logical_or(due[0].members, due[1].members)
            best = int(np.where(members, worth, _OUT).argmax())
            if members[best] and worth[best] > _OUT:
                return best
        best = int(worth.argmax())
        return best if worth[best] > _OUT else None

    def _take(self, best: int) -> None:
        self._open[best] = _OUT
        for quota, counts, most in zip(self._quotas, self._counts, self._limits, strict=True):
            code = int(quota.codes[best])
            counts[code] = counts.get(code, 0) + 1
            if counts[code] >= most:
                self._open[quota.codes == code] = _OUT
        for row, floor in enumerate(self._floors):
            self._have[row] += bool(floor.members[best])
        if self._diversity and self._units is not None:
            np.maximum(self._nearest, self._units @ self._units[best], out=self._nearest)

    def _relax(self, listed: list[int]) -> None:
        """Let every quota rise by one: the candidates cannot fill the list otherwise."""
        self._limits = [most + 1 for most in self._limits]
        self._open = self._values.copy()
        self._open[listed] = _OUT
        for quota, most in zip(self._quotas, self._limits, strict=True):
            full = quota.counts(np.array(listed, dtype=np.int64)) >= most
            self._open[full[quota.codes]] = _OUT

    def _note(self, k: int) -> None:
        self.notices += [
            f"{quota.name} was relaxed from {quota.most} to {limit}: the candidates could not fill the list otherwise"
            for quota, limit in zip(self._quotas, self._limits, strict=True)
            if limit > quota.most
        ]
        self.notices += [
            f"{floor.name} asks for {floor.least(k)} of {k} items; the candidates gave {n}"
            for floor, n in zip(self._floors, self._have, strict=True)
            if n < floor.least(k)
        ]


def within(quotas: list[Quota], listed: Ints, pool: Ints) -> Ints:
    """The members of `pool`, in order, any of which may replace any of `listed` with every quota kept."""
    for quota in quotas:
        free = quota.most - quota.counts(listed)
        codes = quota.codes[pool]
        order = np.argsort(codes, kind="stable")
        nth = np.empty(len(pool), dtype=np.int64)
        nth[order] = np.arange(len(pool)) - np.searchsorted(codes[order], codes[order])
        pool = pool[nth < free[codes]]
    return pool


def needed(floors: list[Floor], listed: Ints) -> Bools:
    """Which places of a list its floors need, (k,): the first members of each, as many as it asks for."""
    fixed = np.zeros(len(listed), dtype=np.bool_)
    for floor in floors:
        fixed[np.flatnonzero(floor.members[listed])[: floor.least(len(listed))]] = True
    return fixed
