"""A cohort's answer as it leaves: every part in its place, on a fixed grid, with the noise of trust `distributed`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from client.cohort import Cohort, Unit
from client.public import HEAD
from client.work import noise_stream
from privacy.discrete_gaussian import Words, seeded_words, system_words
from privacy.distributed_noise import NoiseShare
from privacy.fixed_point import on_grid
from privacy.plan import Stage, Trust
from proto.federation import DEVICES, Task, WireError, layout_of

Array = NDArray[np.float64]
Parts = dict[str, Array]


def whole(task: Task, cohort: Cohort, public: Mapping[str, NDArray[np.generic]], parts: Parts) -> Parts:
    """Return what leaves of a cohort's parts.

    Where merchants are alone, each has a part for its own items; where devices take part too, there is one part of
    all items. Under trust `distributed`, and under masks, everybody answers every part, zeros where it has nothing:
    else an answer would tell whose it is, and noise would be missing where others have entries.

    Raises:
        WireError: the layout does not fit what the stage computes.
    """
    layout = layout_of(task)
    placed = _placed(task, cohort, public, parts, layout)
    if task.trust == Trust.DISTRIBUTED or task.secure:
        placed = {name: placed.get(name, np.zeros(length)) for name, length in layout.items()}
    for name, value in placed.items():
        if value.size != layout[name]:
            raise WireError(
                f"part {name!r} has {value.size} entries here and {layout[name]} in the layout of round "
                f"{task.round}; compare the catalogues of coordinator and participant"
            )
    if task.trust == Trust.DISTRIBUTED:
        return _noised(task, cohort, placed)
    return {name: on_grid(value) for name, value in placed.items()}


def _noised(task: Task, cohort: Cohort, parts: Parts) -> Parts:
    share, words = NoiseShare.of(task, sum(layout_of(task).values())), _words(task, cohort.name)
    return {name: share.noised(value, cohort.participants, words) for name, value in parts.items()}


def _words(task: Task, name: str) -> Words:
    """Return the system's entropy; in tests and simulation a stream of its own for each cohort and round."""
    return system_words if task.noise_seed < 0 else seeded_words(noise_stream(task, name))


def _placed(
    task: Task,
    cohort: Cohort,
    public: Mapping[str, NDArray[np.generic]],
    parts: Parts,
    layout: Mapping[str, int],
) -> Parts:
    """Return the parts under the layout's names; a merchant's without one of its own is added to all items'."""
    units = {unit.part: unit for unit in cohort.units}
    found = {name: value for name, value in parts.items() if name in layout}
    for name in (name for name in parts if name not in layout and parts[name].size):
        if name not in units or DEVICES not in layout:
            raise WireError(
                f"part {name!r} has no place in the layout of round {task.round}; ask for it, or not for this stage"
            )
        all_items = found.get(DEVICES, np.zeros(layout[DEVICES])).copy()
        place = _place(task.stage, units[name], public, len(all_items))
        all_items[place] += parts[name]
        found[DEVICES] = all_items
    return found


def _place(
    stage: str, unit: Unit, public: Mapping[str, NDArray[np.generic]], entries: int
) -> NDArray[np.int64]:
    """Return where a merchant's entries lie among those of all items."""
    if stage == Stage.COUNTS:
        return unit.items
    if stage == Stage.GRAM:
        own = np.flatnonzero(np.isin(np.asarray(public[HEAD]), unit.items))
        return triangle_places(own, len(public[HEAD]))
    return np.arange(entries)


def triangle_places(own: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return where the upper triangle over positions `own` lies in that over all `side` positions, in row order."""
    starts = np.arange(side) * side - np.arange(side) * (np.arange(side) - 1) // 2
    rows, columns = np.triu_indices(len(own))
    return np.asarray(starts[own[rows]] + own[columns] - own[rows])
