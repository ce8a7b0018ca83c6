"""Judging what a surface answers: questions with what was wanted, put to the serving engine and to baselines alike.

Everything competes that the surface may list (full ranking). A question knows the past of its shopper and nothing
that is held out; what is wanted stays with the judge. Only the words of a simulated search come from the wanted item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import polars as pl

from evaluation.errors import ProtocolError
from evaluation.metrics import NOBODY, Flags, Floats, Indices, Scores, list_metrics, top_items
from evaluation.protocol import Protocol, Result
from evaluation.split import Split
from server.serving.query import PastEvent, Surface
from simulation.data.dataset import Dataset

DEPTHS = (10, 20, 50)
LONGEST = max(DEPTHS)
_CELLS = 8_000_000  # scores held in memory at once


def no_items() -> Indices:
    """Return the empty set of items."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One moment at which a shopper looks at a surface.

    Attributes:
        shopper: row of the exam's split.
        wanted: item indices that count as right, ascending; for the judge alone.
        moment: Unix seconds; for sets without a clock, a position after all others.
        anchors: the item in view on detail, the basket on cart.
        session: what the shopper did in this session up to now, in order.
        words: looked for on search.
        barred: item indices that are no candidates for this question, whoever answers.
        candidates: (items,) which items the surface may list now; None: all.
    """

    shopper: int
    wanted: Indices
    moment: int
    anchors: Indices = field(default_factory=no_items)
    session: tuple[PastEvent, ...] = ()
    words: str = ""
    barred: Indices = field(default_factory=no_items)
    candidates: Flags | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """What one surface is asked on one data set.

    Attributes:
        label: of the data, as reports print it.
        split: what may be learned from (`train`), and the numbers of shoppers and items.
        items: the catalogue that is served, row i being item i; may carry flags such as `new_arrival`.
        promotions: columns of `PROMOTION_SCHEMA`, where the set has some.
        keeps_known: whether items that the shopper has already are listed.
    """

    surface: Surface
    name: str
    label: str
    split: Split
    items: pl.DataFrame
    questions: tuple[Question, ...]
    promotions: pl.DataFrame | None = None
    keeps_known: bool = True

    def __post_init__(self) -> None:
        """Refuse an exam that asks nothing, or wants what it bars."""
        if not self.questions:
            raise ProtocolError(f"{self.name}: no question is left; give more events")
        for question in self.questions:
            if not (question.wanted.size and allowed(self, question)[question.wanted].all()):
                raise ProtocolError(f"{self.name}: a question wants nothing, or an item that it bars")


def exam_of(
    dataset: Dataset,
    cut: Split,
    surface: Surface,
    asked: str,
    questions: Iterable[Question],
    *,
    promotions: pl.DataFrame | None = None,
    keeps_known: bool = True,
) -> Exam:
    """Return the exam of one surface over the whole catalogue of a data set; `asked` names it, in words."""
    return Exam(
        surface=surface,
        name=f"{dataset.name}: {asked}",
        label=dataset.label,
        split=cut,
        items=dataset.items,
        questions=tuple(questions),
        promotions=promotions,
        keeps_known=keeps_known,
    )


QuestionScorer: TypeAlias = Callable[[Sequence[Question]], Scores]
"""Scores (questions, items); the higher, the earlier in the list."""


def allowed(exam: Exam, question: Question) -> Flags:
    """Return which items may answer a question, (items,)."""
    found = np.ones(len(exam.split.items), dtype=np.bool_)
    if question.candidates is not None:
        found &= question.candidates
    found[barred(exam, question)] = False
    return found


def barred(exam: Exam, question: Question) -> Indices:
    """Return the items that no ranker may answer with: those of the question, and known ones where they go."""
    if exam.keeps_known:
        return question.barred
    seen = exam.split.seen
    known = seen.indices[seen.indptr[question.shopper] : seen.indptr[question.shopper + 1]]
    return np.union1d(question.barred, known).astype(np.int64)


def lists_of(scorer: QuestionScorer, exam: Exam, depth: int = LONGEST) -> Indices:
    """Return the best `depth` items for every question, (questions, depth), `NOBODY` where no candidate is left."""
    return np.concatenate([top_items(scores, depth) for scores in _masked(scorer, exam)])


def _masked(scorer: QuestionScorer, exam: Exam) -> Iterator[Scores]:
    block = max(1, _CELLS // len(exam.split.items))
    for start in range(0, len(exam.questions), block):
        asked = exam.questions[start : start + block]
        scores = np.array(scorer(asked), dtype=np.float64)
        scores[~np.stack([allowed(exam, question) for question in asked])] = -np.inf
        yield scores


def judge(name: str, lists: Indices, exam: Exam) -> Result:
    """Measure the lists (questions, depth) of one ranker; a shopper of several questions counts with their mean.

    Raises:
        ProtocolError: a list holds an item twice, or one that its question does not allow.
    """
    _check(name, lists, exam)
    hits = np.stack([np.isin(row, q.wanted) for row, q in zip(lists, exam.questions, strict=True)])
    sizes = np.array([q.wanted.size for q in exam.questions], dtype=np.int64)
    shoppers, row = np.unique([q.shopper for q in exam.questions], return_inverse=True)
    depths = [depth for depth in DEPTHS if depth <= lists.shape[1]]
    metrics = list_metrics(hits, sizes, depths)
    return Result(
        name=name,
        protocol=Protocol.FULL,
        shoppers=shoppers.astype(np.int64),
        per_shopper={metric: _mean_by(row, values) for metric, values in metrics.items()},
        overall={},
        diversity_by=None,
    )


def _mean_by(row: Indices, values: Floats) -> Floats:
    return np.asarray(np.bincount(row, values) / np.bincount(row))


def _check(name: str, lists: Indices, exam: Exam) -> None:
    for place, question in enumerate(exam.questions):
        listed = lists[place][lists[place] != NOBODY]
        if np.unique(listed).size != listed.size or not allowed(exam, question)[listed].all():
            raise ProtocolError(
                f"{name} answers question {place} of {exam.name} with an item twice, or with one that is no "
                "candidate; rankers cannot be compared before that is mended"
            )
