"""The cuts themselves: frames of events in, frames of events out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from evaluation.errors import SplitError
from model.features import POSITIVE_KINDS
from simulation.data.dataset import Clock

_ROW, _PLACE, _CUT = "_row", "_place", "_cut"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Events to learn from and events held out."""

    train: pl.DataFrame
    test: pl.DataFrame


def by_time(events: pl.DataFrame, clock: Clock, fraction: float) -> Cut:
    """One global moment: train lies strictly before it, test holds about the last `fraction` of the events.

    Events of equal time stay together, so that nothing of train happens at or after the first held-out event.
    """
    if clock not in (Clock.SECONDS, Clock.DAYS):
        raise SplitError(
            f"a cut by time needs a clock, the data set's is {clock.value!r}; use the split 'last'"
        )
    if not 0 < fraction < 1:
        raise SplitError(f"the held-out fraction is {fraction}, it must lie between 0 and 1")
    times = np.sort(events["timestamp"].to_numpy())
    if times.size == 0 or times[0] == times[-1]:
        raise SplitError(
            "all events bear the same timestamp, nothing can be cut by time; use the split 'last'"
        )
    moment = int(times[int((1 - fraction) * times.size)])
    if moment == times[0]:
        raise SplitError(
            f"the last {fraction:.0%} of the events begin with the first; use a smaller fraction"
        )
    return Cut(
        train=events.filter(pl.col("timestamp") < moment), test=events.filter(pl.col("timestamp") >= moment)
    )


def last_new_item(events: pl.DataFrame, clock: Clock, seed: int) -> Cut:
    """Hold out each shopper's last event that brings a new item; what the shopper did after it is dropped.

    A shopper with a single item keeps all events in train.
    """
    ordered = _in_order(events, clock, seed).with_columns(
        pl.int_range(pl.len()).over("user_id").alias(_PLACE)
    )
    brings_new = pl.struct("user_id", "item_id").is_first_distinct() & pl.col("kind").is_in(POSITIVE_KINDS)
    last = (
        ordered.filter(brings_new)
        .filter(pl.col(_PLACE) > 0)
        .group_by("user_id")
        .agg(pl.col(_PLACE).max().alias(_CUT))
    )
    marked = ordered.join(last, on="user_id", how="left", maintain_order="left").sort(_ROW)
    stays = pl.col(_CUT).is_null() | (pl.col(_PLACE) < pl.col(_CUT))
    return Cut(
        train=marked.filter(stays).select(events.columns),
        test=marked.filter(pl.col(_PLACE) == pl.col(_CUT)).select(events.columns),
    )


def last_pair(events: pl.DataFrame, clock: Clock, kinds: Sequence[str], seed: int) -> Cut:
    """Hold out the item of each shopper's last event of some kinds: all events of that pair leave train.

    A shopper with a single item keeps all events in train.
    """
    several = events.filter(pl.col("item_id").n_unique().over("user_id") > 1)
    ordered = _in_order(several, clock, seed).filter(pl.col("kind").is_in(kinds))
    test = ordered.group_by("user_id", maintain_order=True).last().sort(_ROW).select(events.columns)
    train = events.join(test, on=["user_id", "item_id"], how="anti", maintain_order="left")
    return Cut(train=train, test=test)


def _in_order(events: pl.DataFrame, clock: Clock, seed: int) -> pl.DataFrame:
    """Each shopper's events oldest first, with their row number; in a seeded order where there is no time.

    (A file without time is often sorted by item id: its last item would be no fair sample.)
    """
    rows = events.with_row_index(_ROW)
    if clock is Clock.NONE:
        return rows[np.random.default_rng(seed).permutation(rows.height)]
    return rows.sort("timestamp", maintain_order=True)
