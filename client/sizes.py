"""How large an answer is, from public facts alone: one that does not fit is refused before anything is charged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from client.cohort import Cohort, Unit
from client.public import HEAD, Public, Q
from client.work import PER_ITEM
from model.gradient import ITEM_VECTORS
from model.head import triangle
from privacy.plan import Stage
from proto.federation import AXES, BASIS, DEVICES, EVERYONE, Task, WireError, layout_of

BYTES_OF_ENTRY: Final = 128
"""Memory that an entry takes at most while it is computed, noised and masked: 81 in a Gram triangle and 50
under noise and masks, as measured."""
LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells a container how much memory it may use; "max" is no limit."""


def memory_of_machine(limit: Path = LIMIT) -> int:
    """Return the bytes of memory that this machine has, or this container may use.

    What is free of them would tell how much its shoppers have done.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(limit.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return whole


def check_sizes(task: Task, cohort: Cohort, public: Public, memory: Callable[[], int]) -> None:
    """Refuse an answer that does not fit its layout, or this machine. Its arrays have been checked.

    Raises:
        WireError: names the part and both sizes, or the memory that it takes.
    """
    layout, sizes = layout_of(task), _sizes(task.stage, cohort, public)
    for name, size in sizes.items():
        if layout.get(name, size) != size:
            raise WireError(
                f"part {name!r} has {size} entries here and {layout[name]} in the layout of round {task.round}; "
                "compare the catalogues of coordinator and participant"
            )
    entries = max(sum(layout.values()), sum(sizes.values()))
    if (needed := BYTES_OF_ENTRY * entries) > (there := memory()):
        raise WireError(
            f"round {task.round} ({task.stage}) asks for {entries:,} entries, which take {needed / 2**30:.1f} GiB; "
            f"this machine has {there / 2**30:.1f} GiB: ask for less, or give it more"
        )


def _sizes(stage: str, cohort: Cohort, public: Public) -> dict[str, int]:
    """Return the entries of the parts whose size follows from catalogue and question."""
    if stage == Stage.BASKETS:
        return {EVERYONE: triangle(public[AXES].shape[1])}
    if stage == Stage.GRADIENT:
        trained = public.keys() - {ITEM_VECTORS, Q, *PER_ITEM}
        return {f"{EVERYONE}/{name}": public[name].size for name in trained}
    of_unit = _OF_UNIT.get(stage)
    return {} if of_unit is None else {unit.part: of_unit(unit, public) for unit in cohort.units}


def _counted(unit: Unit, _public: Public) -> int:
    return len(unit.items)


def _paired(unit: Unit, public: Public) -> int:
    return triangle(int(np.isin(public[HEAD], unit.items).sum()))


def _projected(unit: Unit, public: Public) -> int:
    own = BASIS + unit.part
    return triangle(public[own if own in public else BASIS + DEVICES].shape[1])


_OF_UNIT: Final[dict[str, Callable[[Unit, Public], int]]] = {
    Stage.COUNTS: _counted,
    Stage.GRAM: _paired,
    Stage.SUBSPACE: _projected,
}
