"""The exams of a shop with baskets, behind one moment: what lies before it may be learned from, nothing later.

* home: the first basket of each shopper from that moment on; what was bought before may be bought again.
* cart: the same basket without one item, which is wanted.
* promotion: of the items with a promotion valid at that basket's moment, those bought until the week is over.

A basket is what one shopper purchased at one timestamp (`simulation.data.Dataset`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from evaluation.errors import SplitError
from evaluation.metrics import Flags, Indices
from evaluation.split import Split, SplitKind, split
from evaluation.surfaces import Exam, Question, exam_of
from server.serving.query import Surface
from simulation.data.dataset import DAY_SECONDS, Clock, Dataset

WEEK_SECONDS = 7 * DAY_SECONDS
_ONE_SECOND = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class WeekCut:
    """Purchases of one week held out whole.

    Attributes:
        dataset: the set that was cut, for its catalogue and promotions.
        split: train before the week, test in it.
    """

    dataset: Dataset
    split: Split

    def validation(self) -> WeekCut:
        """Return the same cut one week earlier, made from train alone."""
        events = self.split.train.drop("shopper", "item")
        return week_cut(replace(self.dataset, events=events))

    def baskets(self) -> Iterator[tuple[int, int, Indices]]:
        """Give each shopper's row with the moment and the items of the first held-out basket."""
        first = self.split.test.filter(pl.col("timestamp") == pl.col("timestamp").min().over("shopper"))
        for (shopper, moment), lines in sorted(
            first.partition_by("shopper", "timestamp", as_dict=True).items()
        ):
            yield int(str(shopper)), int(str(moment)), np.unique(lines["item"].to_numpy()).astype(np.int64)


def week_cut(dataset: Dataset) -> WeekCut:
    """Hold out the purchases of the last seven days of a set.

    Raises:
        SplitError: the set has no seconds, or nothing lies before or in its last week.
    """
    if dataset.clock is not Clock.SECONDS:
        raise SplitError(
            f"a week needs a clock in seconds; that of {dataset.name} is {dataset.clock.value!r}"
        )
    newest = dataset.events.select(pl.col("timestamp").max()).item()
    since = 0 if newest is None else int(newest) + _ONE_SECOND - WEEK_SECONDS
    bought = pl.col("kind") == "purchase"
    cut = replace(
        dataset,
        events=dataset.events.filter(pl.col("timestamp") < since),
        given_test=dataset.events.filter((pl.col("timestamp") >= since) & bought),
    )
    return WeekCut(dataset=dataset, split=split(cut, SplitKind.GIVEN))


def home_exam(cut: WeekCut) -> Exam:
    """Ask for the next basket."""
    questions = (
        Question(shopper=shopper, wanted=items, moment=moment) for shopper, moment, items in cut.baskets()
    )
    return _exam(cut, Surface.HOME, "next basket", questions)


def cart_exam(cut: WeekCut, seed: int) -> Exam:
    """Ask for one item of each basket of two or more, given the others; `seed` draws it."""
    random = np.random.default_rng(seed)
    questions = (
        _without(shopper, moment, items, int(random.integers(items.size)))
        for shopper, moment, items in cut.baskets()
        if items.size > 1
    )
    return _exam(cut, Surface.CART, "the item left out of a basket", questions)


def _without(shopper: int, moment: int, items: Indices, place: int) -> Question:
    rest = np.delete(items, place)
    return Question(
        shopper=shopper, wanted=items[place : place + 1], moment=moment, anchors=rest, barred=rest
    )


def promotion_exam(cut: WeekCut) -> Exam:
    """Ask which items with a valid promotion a shopper buys in the week.

    Raises:
        SplitError: the set has no promotions.
    """
    if cut.dataset.promotions is None:
        raise SplitError(f"data set {cut.dataset.name!r} has no promotions; see docs/data.md")
    questions = _promoted(cut, cut.dataset.promotions)
    return _exam(cut, Surface.PROMOTION, "bought of what is on promotion", questions)


def _promoted(cut: WeekCut, promotions: pl.DataFrame) -> Iterator[Question]:
    held_out = cut.split.held_out
    current = promotions.filter(pl.col("ends") > cut.split.test.select(pl.col("timestamp").min()).item())
    for shopper, moment, _ in cut.baskets():
        valid = valid_items(current, cut.split.items, moment)
        bought = held_out.indices[held_out.indptr[shopper] : held_out.indptr[shopper + 1]].astype(np.int64)
        wanted = bought[valid[bought]]
        if wanted.size:
            yield Question(shopper=shopper, wanted=wanted, moment=moment, candidates=valid)


def valid_items(promotions: pl.DataFrame, items: tuple[str, ...], moment: int) -> Flags:
    """Return which items have a promotion with `starts <= moment < ends`, (items,)."""
    valid = promotions.filter((pl.col("starts") <= moment) & (moment < pl.col("ends")))
    return pl.Series(items).is_in(valid["item_id"].implode()).to_numpy()


def _exam(cut: WeekCut, surface: Surface, words: str, questions: Iterator[Question]) -> Exam:
    dataset = cut.dataset
    return exam_of(dataset, cut.split, surface, words, questions, promotions=dataset.promotions)
