"""Which stages the surfaces need and a data set declares to support, whatever its events are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_experiment import settings

from evaluation.planning import learned_for, planned
from evaluation.settings import Surfaces, Watch
from evaluation.split import SplitKind
from simulation.data import Clock, Dataset, load
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, USER_SUPPLIED


def dataset(*declared: str, clock: Clock = Clock.SECONDS) -> Dataset:
    """A set that declares what makes a basket, and whose only event is of another kind."""
    event = dict.fromkeys(EVENT_SCHEMA) | {"kind": "return"}
    return Dataset(
        name="kinds",
        label=USER_SUPPLIED,
        events=pl.DataFrame([event], schema=EVENT_SCHEMA),
        items=pl.DataFrame(schema=ITEM_SCHEMA),
        users=None,
        given_test=None,
        clock=clock,
        merchants_from="nowhere",
        rejected_rows=0,
        source="made by a test",
        basket_kinds=declared,
    )


@pytest.mark.parametrize("kinds", [("purchase",), ("add_to_cart", "purchase"), ("view",), ()])
def test_baskets_are_learned_of_the_kinds_that_a_set_declares(kinds: tuple[str, ...]) -> None:
    """None of them need be among the events; the fusion is learned only where it is asked for."""
    data, baskets = dataset(*kinds), ",".join(kinds)
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


def shop(folder: Path, odd: str) -> Path:
    """Forty shoppers who view, and one event of the first that is `odd`."""
    folder.mkdir(parents=True)
    rows = [
        f"u{s},i{(s + step) % 12},view,{1_000_000 + 9_000 * step + s}" for s in range(40) for step in range(6)
    ]
    rows[5] = rows[5].replace("view", odd)
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,kind,timestamp", *rows]) + "\n")
    return folder


def test_one_shoppers_only_purchase_changes_neither_plan_nor_words_of_a_run(tmp_path: Path) -> None:
    """What is published without noise is the same in all neighbouring data sets."""
    plans, words = [], []
    for odd in ("view", "purchase", "add_to_cart", "rating"):
        folder = shop(tmp_path / odd, odd)
        wanted = settings(folder, tmp_path / "run", surfaces=Surfaces.ALL, split=SplitKind.TIME)
        plans.append({**planned(wanted, Watch()), "data": "shop"})
        words.append(learned_for(Surfaces.ALL, load(folder)))
    assert all(plan == plans[0] for plan in plans) and all(word == words[0] for word in words)
    assert words[0] == {"basket_kinds": "add_to_cart,purchase", "fusion": True}
    assert "baskets" in [stage["stage"] for stage in plans[0]["stages"]]
