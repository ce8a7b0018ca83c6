"""The next basket: every shopper's last moment with a purchase is held out, and whatever is wanted in it counts.

A shop's customers buy again what they bought before, so repeated items are wanted and nothing is masked, unlike in
the cuts that ask for new items. Shoppers with one moment only stay in train and are not judged. What is not wanted
from a shopper's last basket on, such as a return, is in neither part.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from evaluation.split import Csr, Split, SplitKind, split
from model.features import POSITIVE_KINDS
from simulation.data.dataset import Dataset

_LAST, _FIRST = "_last", "_first"


def next_basket(dataset: Dataset) -> Split:
    """Return the split in which each shopper's last basket is the test.

    Raises:
        SplitError: nobody has two moments.
    """
    bought = dataset.events.filter(pl.col("kind").is_in(POSITIVE_KINDS))
    moments = bought.group_by("user_id").agg(
        pl.col("timestamp").max().alias(_LAST), pl.col("timestamp").min().alias(_FIRST)
    )
    marked = dataset.events.join(moments, on="user_id", how="left", maintain_order="left")
    held_out = (pl.col("timestamp") >= pl.col(_LAST)) & (pl.col(_LAST) > pl.col(_FIRST))
    columns = dataset.events.columns
    inside = held_out.fill_null(value=False)
    wanted = pl.col("kind").is_in(POSITIVE_KINDS)
    cut = split(
        replace(
            dataset,
            events=marked.filter(~inside).select(columns),
            given_test=marked.filter(inside & wanted).select(columns),
        ),
        SplitKind.GIVEN,
    )
    return replace(cut, seen=_nothing_of(cut.seen), relevant=cut.held_out)


def _nothing_of(pairs: Csr) -> Csr:
    """Return a matrix of the same shape without a pair."""
    empty = pairs.copy()
    empty.data[:] = 0.0
    empty.eliminate_zeros()
    return empty
