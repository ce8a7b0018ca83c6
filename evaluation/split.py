"""Cutting a data set into what a model may learn from and what it is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from evaluation.cuts import Cut, by_time, last_new_item, last_pair
from evaluation.errors import SplitError
from model.features import POSITIVE_KINDS
from simulation.data.dataset import Clock, Dataset

Csr: TypeAlias = "sp.csr_matrix[np.float32]"
_TIMED = (Clock.SECONDS, Clock.DAYS)


class SplitKind(StrEnum):
    """How events are held out."""

    TIME = "time"  # one global moment: train before it, test from it on
    LAST = "last"  # every shopper's last new item
    GIVEN = "given"  # as the data set came


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One cut. Row s of every matrix is `shoppers[s]`, column i is `items[i]` (model index order).

    `train` and `test` have the columns of `Dataset.events` plus `shopper` and `item` (Int32 indices), sorted
    by shopper and timestamp, equal times in the order of the data set. Every shopper has a train event;
    `test` holds the held-out events of these shoppers. The matrices are (shoppers, items) float32 ones.
    """

    kind: SplitKind
    clock: Clock
    shoppers: tuple[str, ...]
    items: tuple[str, ...]
    train: pl.DataFrame
    test: pl.DataFrame
    seen: Csr  # any event in train, whatever its kind
    positives: Csr  # an event of a positive kind in train
    held_out: Csr  # any event in test, whatever its kind
    relevant: Csr  # a held-out event of a positive kind on an item that the shopper has not in train
    moments: npt.NDArray[
        np.int64
    ]  # (shoppers,) time of the first held-out event, -1: not evaluated or no clock

    def __post_init__(self) -> None:
        """Refuse a cut on which nobody can be judged."""
        if self.evaluated.size == 0:
            raise SplitError(
                f"the {self.kind} cut of {len(self.shoppers)} shoppers holds out no new item; "
                "choose another kind of split or give more events"
            )

    @property
    def evaluated(self) -> npt.NDArray[np.int64]:
        """Indices of the shoppers with at least one relevant item, ascending."""
        return np.flatnonzero(np.diff(self.relevant.indptr)).astype(np.int64)


def choose(dataset: Dataset) -> SplitKind:
    """The split that fits the data set: its own, else by time if it has a clock, else the last item."""
    if dataset.given_test is not None:
        return SplitKind.GIVEN
    return SplitKind.TIME if dataset.clock in _TIMED else SplitKind.LAST


def split(dataset: Dataset, kind: SplitKind, *, fraction: float = 0.1, seed: int = 0) -> Split:
    """Cut a data set.

    `fraction`: share of events after the moment of a TIME cut. `seed`: the order of events of a set without
    any time, for LAST. Raises SplitError where the set lacks what the kind needs.
    """
    if kind is SplitKind.GIVEN:
        if dataset.given_test is None:
            raise SplitError(f"data set {dataset.name!r} has no given test; use the split 'time' or 'last'")
        cut = Cut(train=dataset.events, test=dataset.given_test)
    elif kind is SplitKind.TIME:
        cut = by_time(dataset.events, dataset.clock, fraction)
    else:
        cut = last_new_item(dataset.events, dataset.clock, seed)
    return _assemble(cut, kind, dataset.clock, tuple(dataset.items["item_id"]))


def validation(outer: Split, *, fraction: float = 0.1, seed: int = 0) -> Split:
    """Cut the train part again, in the same way, to choose hyper-parameters without a look at the test.

    A GIVEN split held out whole (shopper, item) pairs of some kinds, so its validation takes every shopper's
    last pair of those kinds. Shoppers are numbered anew; items keep their index.
    """
    events = outer.train.drop("shopper", "item")
    if outer.kind is SplitKind.TIME:
        cut = by_time(events, outer.clock, fraction)
    elif outer.kind is SplitKind.LAST:
        cut = last_new_item(events, outer.clock, seed)
    else:
        cut = last_pair(events, outer.clock, outer.test["kind"].unique().to_list(), seed)
    return _assemble(cut, outer.kind, outer.clock, outer.items)


def _assemble(cut: Cut, kind: SplitKind, clock: Clock, items: tuple[str, ...]) -> Split:
    """Number shoppers and items and build the matrices."""
    shoppers = tuple(cut.train["user_id"].unique().sort())
    train = _numbered(cut.train, shoppers, items)
    test = _numbered(cut.test, shoppers, items)
    shape = (len(shoppers), len(items))
    seen = _pairs(train)
    wanted = _pairs(test.filter(pl.col("kind").is_in(POSITIVE_KINDS)))
    relevant = wanted.join(seen, on=["shopper", "item"], how="anti")
    return Split(
        kind=kind,
        clock=clock,
        shoppers=shoppers,
        items=items,
        train=train,
        test=test,
        seen=_matrix(seen, shape),
        positives=_matrix(_pairs(train.filter(pl.col("kind").is_in(POSITIVE_KINDS))), shape),
        held_out=_matrix(_pairs(test), shape),
        relevant=_matrix(relevant, shape),
        moments=_moments(test, relevant, clock, len(shoppers)),
    )


def _numbered(events: pl.DataFrame, shoppers: tuple[str, ...], items: tuple[str, ...]) -> pl.DataFrame:
    """The events of these shoppers with their indices. Raises SplitError for an unknown item."""
    by_shopper = pl.DataFrame({"user_id": shoppers}, schema={"user_id": pl.String}).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("shopper")
    )
    by_item = pl.DataFrame({"item_id": items}, schema={"item_id": pl.String}).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("item")
    )
    known = events.join(by_shopper, on="user_id", how="inner", maintain_order="left")
    numbered = known.join(by_item, on="item_id", how="left", maintain_order="left")
    if missing := numbered["item"].null_count():
        raise SplitError(f"{missing} events name an item that is not in the item table; add its row there")
    return numbered.sort("shopper", "timestamp", maintain_order=True)


def _pairs(events: pl.DataFrame) -> pl.DataFrame:
    """The distinct (shopper, item) pairs of some events."""
    return events.select("shopper", "item").unique()


def _matrix(pairs: pl.DataFrame, shape: tuple[int, int]) -> Csr:
    """Ones at the given pairs, indices sorted within each row."""
    ones = np.ones(pairs.height, dtype=np.float32)
    matrix = sp.csr_matrix((ones, (pairs["shopper"].to_numpy(), pairs["item"].to_numpy())), shape=shape)
    matrix.sort_indices()
    return matrix


def _moments(test: pl.DataFrame, relevant: pl.DataFrame, clock: Clock, count: int) -> npt.NDArray[np.int64]:
    """When each evaluated shopper's held-out events begin; -1 where nobody knows or asks."""
    moments = np.full(count, -1, dtype=np.int64)
    if clock not in _TIMED:
        return moments
    asked = test.join(relevant.select("shopper").unique(), on="shopper", how="semi")
    first = asked.group_by("shopper").agg(pl.col("timestamp").min()).filter(pl.col("timestamp") > 0)
    moments[first["shopper"].to_numpy()] = first["timestamp"].to_numpy()
    return moments
