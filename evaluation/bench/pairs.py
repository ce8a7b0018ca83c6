"""Two sides measured in turn: on a busy machine a ratio of neighbours in time says more than two figures."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from evaluation.bench.rows import Row
from evaluation.errors import SettingsError

Side = Callable[[], float]
"""Does its work once and returns the seconds that it took."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Seconds of both sides, pair by pair.

    Attributes:
        work: how much one turn does, in any unit.
    """

    work: int
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our speed over theirs: the median over the pairs."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def rows(self, words: str, unit: str, target: float | None) -> list[Row]:
        """Return the ratio with its target, the lowest and highest ratio of one pair, and both rates."""
        ratios = sorted(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))
        per_second = f"{unit} per second"
        return [
            Row(measure=f"{words}: ours / plain", value=self.ratio, unit="ratio", target=target),
            Row(measure=f"{words}: lowest pair", value=ratios[0], unit="ratio"),
            Row(measure=f"{words}: ours", value=self.work / statistics.median(self.ours), unit=per_second),
            Row(measure=f"{words}: plain", value=self.work / statistics.median(self.theirs), unit=per_second),
        ]


def in_turn(work: int, ours: Side, theirs: Side, pairs: int) -> Pairs:
    """Measure both sides so often, each first in every other pair, so that neither always finds warm caches.

    Raises:
        SettingsError: no pair was asked for.
    """
    if pairs < 1:
        raise SettingsError(f"pairs is {pairs}; it must be at least 1")
    seconds: dict[Side, list[float]] = {ours: [], theirs: []}
    for turn in range(pairs):
        for side in (ours, theirs) if turn % 2 else (theirs, ours):
            gc.collect()
            seconds[side].append(side())
    return Pairs(work=work, ours=tuple(seconds[ours]), theirs=tuple(seconds[theirs]))
