"""How large an answer will be is known from the question, and one that cannot be is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shopper_world import ITEMS, random_shoppers
from test_public_arrays import honest
from test_work import devices, merchant, task

from client import stages
from client.cohort import Cohort, Unit
from client.sizes import BYTES_OF_ENTRY, check_sizes, memory_of_machine
from privacy.plan import Trust
from proto.federation import EVERYONE, MERCHANT_PART, WireError, layout_words

STAGES: Mapping[str, stages.Work] = {
    "counts": stages.counts,
    "gram": stages.gram,
    "subspace": stages.subspace,
    "baskets": stages.baskets,
    "gradient": stages.gradient,
    "fusion": stages.fusion,
}
MERCHANT = MERCHANT_PART + "m1"


def cohort(*units: Unit) -> Cohort:
    """A node that carries these units."""
    nothing: Any = None
    return Cohort(name="node 0 of 1", units=units, ledger=nothing, catalogue=np.arange(ITEMS))  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("make", [merchant, devices])
def test_what_is_computed_has_the_size_that_was_foretold(stage: str, make: Any) -> None:
    """The very layout of the answer passes; one entry more in any part does not, but for the fusion's fixed ones."""
    units, public = cohort(make(random_shoppers(1, 20))), honest()[stage]
    question = task(stage, Trust.CENTRAL, basket_kinds="purchase")
    lengths = {name: np.asarray(value).size for name, value in STAGES[stage](question, units, public).items()}
    for name in lengths:
        for more in (0, 1):
            layout = layout_words({**lengths, name: lengths[name] + more})
            asked = task(stage, Trust.CENTRAL, basket_kinds="purchase", layout=layout)
            if more and stage != "fusion":
                with pytest.raises(WireError, match=f"{lengths[name]} entries here and {lengths[name] + 1}"):
                    check_sizes(asked, units, public, memory_of_machine)
            else:
                check_sizes(asked, units, public, memory_of_machine)


@pytest.mark.parametrize("layout", [{EVERYONE: 1000}, {MERCHANT: 4, "merchant:other": 996}])
def test_an_answer_that_no_memory_holds_is_refused(layout: dict[str, int]) -> None:
    """What others have in the layout counts: zeros and noise are made for it too."""
    units, public = cohort(merchant(random_shoppers(1, 20))), honest()["counts"]
    question = task("counts", Trust.DISTRIBUTED, layout=layout_words(layout))
    check_sizes(question, units, public, lambda: 1000 * BYTES_OF_ENTRY)
    with pytest.raises(WireError, match="asks for 1,000 entries"):
        check_sizes(question, units, public, lambda: 1000 * BYTES_OF_ENTRY - 1)


def test_what_is_computed_counts_where_the_layout_says_less() -> None:
    """A head of ten thousand times the same item makes a triangle of fifty million, whatever place it has."""
    units, public = cohort(merchant(random_shoppers(1, 20))), honest()["gram"]
    long = {
        name: np.repeat(value[[1]] if len(value) > 1 else value, 10_000) for name, value in public.items()
    }
    question = task("gram", Trust.DISTRIBUTED, layout=layout_words({"devices": 1}))
    with pytest.raises(WireError, match="asks for 50,005,000 entries"):
        check_sizes(question, units, long, lambda: 2**30)


@pytest.mark.parametrize(
    ("told", "counts"), [("1048576\n", True), ("max\n", False), ("9" * 30, False), (None, False)]
)
def test_a_containers_limit_counts_where_it_has_one(tmp_path: Path, told: str | None, counts: bool) -> None:
    """A node that is ended for its memory after it has charged has spent budget for nothing."""
    if told is not None:
        (tmp_path / "memory.max").write_text(told)
    whole = memory_of_machine(tmp_path / "absent")
    assert memory_of_machine(tmp_path / "memory.max") == (1048576 if counts else whole)
