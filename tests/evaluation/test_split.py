"""Cutting data sets into train and test."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from evaluation_world import Row, dataset, random_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import SplitError
from evaluation.split import Split, SplitKind, choose, split, validation
from model.features import KINDS, POSITIVE_KINDS
from simulation.data.dataset import Clock

some_rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([f"i{n}" for n in range(6)]),
        st.sampled_from(KINDS),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=40,
)


def _pairs(cut: Split, frame: pl.DataFrame) -> set[tuple[str, str]]:
    return set(frame.select("user_id", "item_id").iter_rows())


def _named(cut: Split, matrix: object) -> set[tuple[str, str]]:
    rows, columns = matrix.nonzero()  # type: ignore[attr-defined]
    return {(cut.shoppers[r], cut.items[c]) for r, c in zip(rows, columns, strict=True)}


@settings(max_examples=150, deadline=None)
@given(some_rows, st.sampled_from([SplitKind.TIME, SplitKind.LAST]), st.sampled_from([0.1, 0.4]))
def test_every_cut_keeps_its_promises(rows: list[Row], kind: SplitKind, fraction: float) -> None:
    """Relevant items are new and positive, train comes before test, matrices and frames say the same."""
    try:
        cut = split(dataset(rows), kind, fraction=fraction)
    except SplitError:
        return
    train, positive = _pairs(cut, cut.train), cut.test.filter(pl.col("kind").is_in(POSITIVE_KINDS))
    assert _named(cut, cut.seen) == train
    assert _named(cut, cut.held_out) == _pairs(cut, cut.test)
    assert _named(cut, cut.relevant) == _pairs(cut, positive) - train
    assert _named(cut, cut.positives) == _pairs(cut, cut.train.filter(pl.col("kind").is_in(POSITIVE_KINDS)))
    assert set(cut.train["user_id"]) == set(cut.shoppers) and set(cut.test["user_id"]) <= set(cut.shoppers)
    assert [cut.shoppers[s] for s in cut.train["shopper"]] == cut.train["user_id"].to_list()
    assert [cut.items[i] for i in cut.train["item"]] == cut.train["item_id"].to_list()
    assert cut.train["shopper"].is_sorted()
    for shopper in cut.evaluated:
        mine = pl.col("shopper") == int(shopper)
        newest = cut.train.filter(mine)["timestamp"].max()
        oldest = cut.test.filter(mine)["timestamp"].min()
        assert newest <= oldest and cut.moments[shopper] == oldest  # type: ignore[operator]
    if kind is SplitKind.TIME:
        assert cut.train["timestamp"].max() < cut.test["timestamp"].min()  # type: ignore[operator]


def test_the_cut_by_time_holds_out_the_last_tenth_of_the_events() -> None:
    """A hundred moments, one event each: ten lie behind the cut, and all of them are of one shopper."""
    rows: list[Row] = [("a", f"i{n:03d}", "purchase", n + 1) for n in range(100)]
    cut = split(dataset(rows), SplitKind.TIME)
    assert (cut.train.height, cut.test.height, cut.relevant.nnz) == (90, 10, 10)
    assert cut.moments.tolist() == [91]


def test_the_last_new_item_is_held_out_and_later_repeats_are_dropped() -> None:
    """One shopper buys x, y, z and x again: z is the test, the second x is gone; another has one item only."""
    rows: list[Row] = [("a", "x", "view", 1), ("a", "y", "purchase", 2), ("a", "z", "purchase", 3)]
    rows += [("a", "x", "purchase", 4), ("b", "x", "view", 1), ("b", "x", "purchase", 2)]
    cut = split(dataset(rows), SplitKind.LAST)
    assert cut.train.select("user_id", "item_id", "timestamp").rows() == [
        ("a", "x", 1),
        ("a", "y", 2),
        ("b", "x", 1),
        ("b", "x", 2),
    ]
    assert cut.test.select("user_id", "item_id", "timestamp").rows() == [("a", "z", 3)]
    assert cut.evaluated.tolist() == [0] and cut.moments.tolist() == [3, -1]


@pytest.mark.parametrize("kind", ["return", "dismiss"])
def test_an_unwanted_item_is_never_what_should_be_found(kind: str) -> None:
    """The last event is a return or a dismissal: the purchase before it is held out instead."""
    rows: list[Row] = [("a", "x", "purchase", 1), ("a", "y", "purchase", 2), ("a", "z", kind, 3)]
    cut = split(dataset(rows), SplitKind.LAST)
    assert _named(cut, cut.relevant) == {("a", "y")}
    with pytest.raises(SplitError, match="holds out no new item"):
        split(dataset([rows[0], rows[2]]), SplitKind.TIME, fraction=0.5)


def test_equal_times_keep_the_order_of_the_data_set() -> None:
    """Three purchases in one minute: the one that the file names last is the last."""
    rows: list[Row] = [("a", item, "purchase", 7) for item in ("z", "x", "y")]
    cut = split(dataset(rows), SplitKind.LAST)
    assert cut.train["item_id"].to_list() == ["z", "x"] and cut.test["item_id"].to_list() == ["y"]


def test_without_any_time_the_last_item_is_drawn_and_not_the_end_of_the_file() -> None:
    """Files without time are often sorted by item: over many shoppers each item is held out about as often."""
    rows: list[Row] = [(f"s{s:03d}", f"i{i}", "purchase", 0) for s in range(400) for i in range(5)]
    data = dataset(rows, clock=Clock.NONE)
    counts = np.bincount(split(data, SplitKind.LAST, seed=3).test["item"].to_numpy(), minlength=5)
    assert counts.sum() == 400 and abs(counts - 80).max() < 4.5 * np.sqrt(400 * 0.2 * 0.8)
    assert split(data, SplitKind.LAST, seed=3).test.equals(split(data, SplitKind.LAST, seed=3).test)
    assert not split(data, SplitKind.LAST, seed=3).test.equals(split(data, SplitKind.LAST, seed=4).test)


def test_a_given_test_is_taken_as_it_is() -> None:
    """Strangers are left out, an item that the shopper already has is not relevant."""
    rows: list[Row] = [("a", "x", "view", 1), ("b", "y", "view", 2)]
    held: list[Row] = [
        ("a", "y", "purchase", None),
        ("b", "y", "purchase", None),
        ("c", "x", "purchase", None),
    ]
    cut = split(dataset(rows, given=held), SplitKind.GIVEN)
    assert _named(cut, cut.relevant) == {("a", "y")}
    assert cut.train.height == 2 and set(cut.test["user_id"]) == {"a", "b"}
    assert cut.moments.tolist() == [-1, -1]


def test_the_split_is_chosen_by_what_the_data_set_has() -> None:
    """Its own test first, then a clock, then the order."""
    rows: list[Row] = [("a", "x", "view", 1)]
    assert choose(dataset(rows, given=rows)) is SplitKind.GIVEN
    assert choose(dataset(rows, clock=Clock.SECONDS)) is SplitKind.TIME
    assert choose(dataset(rows, clock=Clock.DAYS)) is SplitKind.TIME
    assert choose(dataset(rows, clock=Clock.ORDER)) is SplitKind.LAST
    assert choose(dataset(rows, clock=Clock.NONE)) is SplitKind.LAST


@pytest.mark.parametrize("kind", [SplitKind.TIME, SplitKind.LAST])
def test_validation_cuts_train_again_and_never_sees_the_test(kind: SplitKind) -> None:
    """Both parts of the inner cut come from the outer train part; items keep their index."""
    outer = split(random_dataset(1), kind)
    inner = validation(outer)
    everything = _pairs(inner, inner.train) | _pairs(inner, inner.test)
    assert everything <= _pairs(outer, outer.train) and inner.items == outer.items
    assert inner.kind is kind and inner.train.height < outer.train.height
    if kind is SplitKind.TIME:
        assert inner.train["timestamp"].max() < inner.test["timestamp"].min()  # type: ignore[operator]


def test_validation_of_a_given_split_holds_out_whole_pairs_of_the_held_out_kinds() -> None:
    """The test asks for purchases: so does the inner cut, and the views of that item leave train with it."""
    rows: list[Row] = [
        ("a", "x", "view", 1),
        ("a", "y", "view", 2),
        ("a", "y", "purchase", 3),
        ("a", "z", "view", 4),
    ]
    inner = validation(split(dataset(rows, given=[("a", "w", "purchase", 9)]), SplitKind.GIVEN))
    assert _named(inner, inner.relevant) == {("a", "y")}
    assert inner.train["item_id"].to_list() == ["x", "z"]


def test_a_cut_that_cannot_be_made_says_why() -> None:
    """Each error names what is missing and what to do instead."""
    rows: list[Row] = [("a", "x", "purchase", 1), ("a", "y", "purchase", 2)]
    with pytest.raises(SplitError, match="no given test"):
        split(dataset(rows), SplitKind.GIVEN)
    with pytest.raises(SplitError, match="needs a clock"):
        split(dataset(rows, clock=Clock.ORDER), SplitKind.TIME)
    with pytest.raises(SplitError, match="between 0 and 1"):
        split(dataset(rows), SplitKind.TIME, fraction=1.5)
    with pytest.raises(SplitError, match="same timestamp"):
        split(dataset([("a", "x", "view", 5), ("a", "y", "view", 5)]), SplitKind.TIME)
    with pytest.raises(SplitError, match="smaller fraction"):
        split(dataset(rows), SplitKind.TIME, fraction=0.99)
    with pytest.raises(SplitError, match="not in the item table"):
        split(dataset(rows, items=["x"]), SplitKind.LAST)
