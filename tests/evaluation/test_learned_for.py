"""Which stages the surfaces need and a data set supports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from evaluation.planning import learned_for
from evaluation.settings import Surfaces
from simulation.data import Clock, Dataset
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, USER_SUPPLIED


def dataset(*kinds: str, clock: Clock = Clock.SECONDS) -> Dataset:
    """A set with one event of each kind."""
    events = pl.DataFrame({"kind": list(kinds)}, schema={"kind": pl.String})
    missing = [pl.lit(None, kind).alias(name) for name, kind in EVENT_SCHEMA.items() if name != "kind"]
    return Dataset(
        name="kinds",
        label=USER_SUPPLIED,
        events=events.with_columns(missing).select(*EVENT_SCHEMA),
        items=pl.DataFrame(schema=ITEM_SCHEMA),
        users=None,
        given_test=None,
        clock=clock,
        merchants_from="nowhere",
        rejected_rows=0,
        source="made by a test",
    )


@pytest.mark.parametrize(
    ("kinds", "baskets"),
    [
        (("purchase",), "purchase"),
        (("view", "purchase", "add_to_cart", "return"), "add_to_cart,purchase"),
        (("view", "rating"), "view"),
        (("rating",), ""),
    ],
)
def test_a_basket_is_bought_or_carried_and_viewed_only_where_nothing_else_is_known(
    kinds: tuple[str, ...], baskets: str
) -> None:
    """Ratings make no basket; the fusion is learned only where it is asked for."""
    data = dataset(*kinds)
    assert learned_for(Surfaces.BASKETS, data) == {"basket_kinds": baskets, "fusion": False}
    assert learned_for(Surfaces.ALL, data) == {"basket_kinds": baskets, "fusion": True}
    assert learned_for(Surfaces.HOME, data) == {"basket_kinds": "", "fusion": False}


@pytest.mark.parametrize("clock", [Clock.ORDER, Clock.NONE])
def test_without_a_clock_nothing_but_home_is_learned(clock: Clock) -> None:
    """Nobody knows what was taken together, whatever is asked for; a clock of days is enough."""
    nothing: dict[str, Any] = {"basket_kinds": "", "fusion": False}
    assert learned_for(Surfaces.ALL, dataset("purchase", clock=clock)) == nothing
    by_day = replace(dataset("purchase"), clock=Clock.DAYS)
    assert learned_for(Surfaces.BASKETS, by_day)["basket_kinds"] == "purchase"
