"""What a bench found: one row per measure, with the target that it is held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from evaluation.errors import ReportError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure.

    Attributes:
        measure: what was measured, in words; unique within its bench.
        value: what was found.
        unit: of value and target, in words: "ratio", "GiB", "shoppers per CPU-second".
        target: what is aimed at; None for a figure that only informs.
        at_least: whether the value must be at least the target; else it must be at most the target.
    """

    measure: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True

    def __post_init__(self) -> None:
        """Refuse a figure that says nothing, as a division by a measured zero gives.

        Raises:
            ReportError: names the measure.
        """
        for word, value in (("value", self.value), ("target", self.target)):
            if value is not None and not math.isfinite(value):
                raise ReportError(
                    f"the {word} of {self.measure!r} is {value}; it must be finite: leave the row out"
                )

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return the row as `fedrank bench --json` prints it."""
        return {
            "measure": self.measure,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
        }
