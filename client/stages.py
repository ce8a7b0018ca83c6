"""What a whole cohort computes for each stage: parts by unit, or one for everyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from client import work
from client.cohort import Cohort
from proto.federation import EVERYONE, Task

Parts = dict[str, NDArray[np.float64]]
Public = Mapping[str, NDArray[np.generic]]
Work = Callable[[Task, Cohort, Public], Parts]
OfUnit = Callable[..., NDArray[np.float64]]


def counts(task: Task, cohort: Cohort, public: Public) -> Parts:
    """Return the item counts of each unit."""
    return _each(work.counts, task, cohort, public)


def gram(task: Task, cohort: Cohort, public: Public) -> Parts:
    """Return the Gram triangle of each unit."""
    return _each(work.gram, task, cohort, public)


def subspace(task: Task, cohort: Cohort, public: Public) -> Parts:
    """Return the Gram triangle of each unit inside the public basis."""
    return _each(work.subspace, task, cohort, public)


def baskets(task: Task, cohort: Cohort, public: Public) -> Parts:
    """Return the moment of what is taken together, summed over all units."""
    return _together(work.baskets, task, cohort, public)


def fusion(task: Task, cohort: Cohort, public: Public) -> Parts:
    """Return what histories teach the surfaces, summed over all units."""
    return _together(work.fusion, task, cohort, public)


def gradient(task: Task, cohort: Cohort, public: Public) -> Parts:
    """Return the clipped gradient summed over all units."""
    size = len(cohort.catalogue)
    totals: dict[str, NDArray[np.float64]] = {}
    for unit in cohort.units:
        for name, value in work.gradient(task, unit, public, size).items():
            totals[name] = totals.get(name, 0.0) + value
    return {f"{EVERYONE}/{name}": total for name, total in totals.items()}


def shortened(parts: Parts, longest: float) -> Parts:
    """Return parts whose joint L2 norm is at most `longest`.

    A merchant with more shoppers than it has declared sends no more than it may. The nearest point of a ball moves no
    further than the sum itself, so one shopper still changes it by the clipping norm at most.
    """
    norm = float(np.sqrt(sum(np.square(value).sum() for value in parts.values())))
    return parts if norm <= longest else {name: value * (longest / norm) for name, value in parts.items()}


def _each(compute: OfUnit, task: Task, cohort: Cohort, public: Public) -> Parts:
    size = len(cohort.catalogue)
    return {unit.part: compute(task, unit, public, size) for unit in cohort.units}


def _together(compute: OfUnit, task: Task, cohort: Cohort, public: Public) -> Parts:
    parts = _each(compute, task, cohort, public)
    return {EVERYONE: np.sum(list(parts.values()), axis=0)} if parts else {}
