"""The exams of a shopper's next step: the next new item (home, search, detail), the next in a session, a novelty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl

from evaluation.cold_items import ColdCut
from evaluation.errors import SplitError
from evaluation.metrics import Indices
from evaluation.split import Split, SplitKind, split
from evaluation.surfaces import Exam, Question, exam_of
from evaluation.surfaces_words import QueryStyle, WordStock, simulated_query
from model.features import POSITIVE_KINDS
from server.serving.query import PastEvent, Surface
from simulation.data.dataset import Clock, Dataset

SESSION_GAP = 1800
"""Seconds without an event after which a session is over."""
_START = "_start"
"""Column with the moment at which an event's session began."""


def next_item_exam(dataset: Dataset, cut: Split) -> Exam:
    """Ask home for each shopper's last new item; what the shopper has already is not listed."""
    questions = tuple(
        Question(shopper=shopper, wanted=wanted, moment=moment) for shopper, wanted, moment in _asked(cut)
    )
    return exam_of(dataset, cut, Surface.HOME, "last new item", questions, keeps_known=False)


def beside_exam(dataset: Dataset, cut: Split) -> Exam:
    """Ask detail of each shopper's newest train item for the last new item."""
    newest = dict(cut.train.group_by("shopper").agg(pl.col("item").last()).iter_rows())
    questions = []
    for shopper, wanted, moment in _asked(cut):
        anchor = np.array([newest[shopper]], dtype=np.int64)
        questions.append(
            Question(shopper=shopper, wanted=wanted, moment=moment, anchors=anchor, barred=anchor)
        )
    return exam_of(dataset, cut, Surface.DETAIL, "what comes after the newest item", questions)


def search_exam(dataset: Dataset, cut: Split, style: QueryStyle, seed: int) -> Exam:
    """Ask search for each shopper's last new item, by simulated words of its title.

    A wanted item without words of the style is not asked for.
    """
    stock = WordStock.of(dataset.items)
    questions = []
    for shopper, wanted, moment in _asked(cut):
        words = simulated_query(stock, int(wanted[0]), style, seed)
        if words:
            questions.append(Question(shopper=shopper, wanted=wanted, moment=moment, words=words))
    words_of = f"last new item, {style} words of its title (simulated)"
    return exam_of(dataset, cut, Surface.SEARCH, words_of, questions)


def new_arrivals_exam(dataset: Dataset, cut: ColdCut) -> Exam:
    """Ask new_arrivals for the cold items of a fold, which alone are listed there."""
    new = np.zeros(len(dataset.items), dtype=np.bool_)
    new[cut.cold] = True
    questions = tuple(
        Question(shopper=shopper, wanted=wanted, moment=moment, candidates=new)
        for shopper, wanted, moment in _asked(cut.split)
    )
    return Exam(
        surface=Surface.NEW_ARRIVALS,
        name=f"{dataset.name}: items absent from train",
        label=dataset.label,
        split=cut.split,
        items=dataset.items.with_columns(pl.Series("new_arrival", new)),
        questions=questions,
    )


def _asked(cut: Split) -> Iterator[tuple[int, Indices, int]]:
    """Give shopper, wanted items and moment; without a clock the moment is a position after all of train."""
    after = int(cut.train.select(pl.col("timestamp").max()).item()) + 1
    for shopper in cut.evaluated.tolist():
        wanted = cut.relevant.indices[cut.relevant.indptr[shopper] : cut.relevant.indptr[shopper + 1]]
        moment = int(cut.moments[shopper])
        yield shopper, np.sort(wanted).astype(np.int64), moment if moment >= 0 else after


def session_split(dataset: Dataset) -> Split:
    """Hold out each shopper's last session with two different items; what the shopper did after it is dropped.

    Raises:
        SplitError: the set has no seconds, or nobody has such a session after others.
    """
    if dataset.clock is not Clock.SECONDS:
        raise SplitError(
            f"sessions need a clock in seconds; that of {dataset.name} is {dataset.clock.value!r}"
        )
    marked = with_sessions(dataset.events)
    wanted = marked.filter(pl.col("kind").is_in(POSITIVE_KINDS))
    sessions = wanted.group_by("user_id", _START).agg(pl.col("item_id").n_unique().alias("items"))
    last = sessions.filter(pl.col("items") > 1).group_by("user_id").agg(pl.col(_START).max().alias("_held"))
    joined = marked.join(last, on="user_id", how="left", maintain_order="left")
    columns = dataset.events.columns
    before = pl.col("_held").is_null() | (pl.col(_START) < pl.col("_held"))
    held_out = (pl.col(_START) == pl.col("_held")) & pl.col("kind").is_in(POSITIVE_KINDS)
    train, test = (joined.filter(part).select(columns) for part in (before, held_out))
    return split(replace(dataset, events=train, given_test=test), SplitKind.GIVEN)


def with_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Add the moment at which each event's session began; events are sorted by shopper and time."""
    pause = pl.col("timestamp").diff().over("user_id").fill_null(SESSION_GAP + 1) > SESSION_GAP
    began = pl.when(pause).then(pl.col("timestamp")).otherwise(None).forward_fill().over("user_id")
    return events.with_columns(began.alias(_START))


def detail_exam(dataset: Dataset, cut: Split) -> Exam:
    """Ask, at every new item of a held-out session but its last, for the item that comes next."""
    return exam_of(dataset, cut, Surface.DETAIL, "next item of the session", _steps(cut))


def _steps(cut: Split) -> Iterator[Question]:
    for (shopper,), events in sorted(cut.test.partition_by("shopper", as_dict=True).items()):
        rows = list(events.select("item", "item_id", "kind", "timestamp").iter_rows())
        firsts = [
            place for place, row in enumerate(rows) if row[0] not in {other[0] for other in rows[:place]}
        ]
        for here, then in pairwise(firsts):
            past = [PastEvent(item_id=name, kind=kind, time=time) for _, name, kind, time in rows[: here + 1]]
            anchor = np.array([rows[here][0]], dtype=np.int64)
            yield Question(
                shopper=int(str(shopper)),
                wanted=np.array([rows[then][0]], dtype=np.int64),
                moment=int(rows[here][3]),
                anchors=anchor,
                session=tuple(past),
                barred=anchor,
            )


def session_groups(cut: Split) -> Indices:
    """Return the session of each train event, as a number, (events,)."""
    starts = with_sessions(cut.train).select("shopper", _START)
    return np.asarray(
        starts.select(pl.struct("shopper", _START).rank("dense")).to_series() - 1, dtype=np.int64
    )
