"""The items of a question's field with the largest inner product, without those that are barred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.serving.fields import Field
from server.serving.profile import Profile
from server.serving.query import RankQuery
from server.serving.scoring import Parts
from server.serving.snapshot import Floats, Snapshot

Ints = npt.NDArray[np.int64]

LARGEST_LISTED = 20_000
"""A field of at most so many items is scored item by item; a larger one is searched for."""
_MORE_FOR_BARRED = 64
_STEP = 16
"""Depths go by so many for what is barred, so that few differ and questions are searched for together."""
_WIDER = 8
_FEW = 100
"""So few items are looked up one by one in less time than together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with all that its candidates depend on; at least `wanted` of them, where there are so many.

    Attributes:
        freshest: whether the items listed last are candidates whatever their score.
        listed_at: (items,) when each is listed; None where none has a date after the question's moment.
    """

    query: RankQuery
    profile: Profile
    parts: Parts
    field: Field
    wanted: int
    freshest: bool = False
    listed_at: Ints | None = None

    @property
    def depth(self) -> int:
        """How many items to look for so that enough stay when the barred ones are left out, as a rule."""
        more = -len(self.profile.barred) // _STEP * -_STEP
        return self.wanted + min(more, _MORE_FOR_BARRED)

    def keeps(self, items: Ints) -> Ints:
        """Places of the items that may be listed: not barred, in the field, listed by now; an item -1 is none."""
        places = self._not_barred(items)
        if self.listed_at is not None:
            places = places[self.listed_at[items[places]] <= self.query.timestamp]
        return places if self.field.mask is None else places[self.field.mask[items[places]]]

    def _not_barred(self, items: Ints) -> Ints:
        barred = self.profile.barred
        if len(items) <= _FEW:
            kept = [place for place, item in enumerate(items.tolist()) if item >= 0 and item not in barred]
            return np.array(kept, dtype=np.int64)
        inside = items >= 0
        if barred:
            inside &= ~np.isin(items, np.fromiter(barred, dtype=np.int64, count=len(barred)))
        return np.flatnonzero(inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Servable items (n,), each once, best first, and what ordered them.

    Attributes:
        tiers: (n,) on search: no item may come before one of a higher tier, and those close in meaning have 0.
            None elsewhere.
    """

    items: Ints
    scores: Floats
    tiers: Ints | None = None
    notices: tuple[str, ...] = ()


def together(snapshot: Snapshot, questions: Sequence[Question]) -> list[tuple[Ints, Floats]]:
    """The nearest items of questions over the whole catalogue, best first, and their scores.

    What a question gets does not depend on those beside it: an exact index is searched once, to the greatest depth,
    and each row is cut to its question's; one that is not exact finds other items at another depth, so it is searched
    once for each depth.
    """
    deepest = max((question.depth for question in questions), default=0)
    rows: dict[int, list[int]] = {}
    for row, question in enumerate(questions):
        rows.setdefault(deepest if snapshot.index.exact else question.depth, []).append(row)
    answers: dict[int, tuple[Ints, Floats]] = {}
    for depth, alike in rows.items():
        vectors = np.stack([questions[row].parts.query for row in alike])
        items, scores = snapshot.index.search(vectors, depth)
        for row, found, values in zip(alike, items, scores, strict=True):
            cut = questions[row].depth
            answers[row] = _enough(snapshot, questions[row], found[:cut], values[:cut])
    return [answers[row] for row in range(len(questions))]


def _enough(snapshot: Snapshot, question: Question, items: Ints, scores: Floats) -> tuple[Ints, Floats]:
    """Of what was found what may be listed; where that is too little, what a wider search finds."""
    places = question.keeps(items)
    if len(places) < question.wanted and question.depth < len(snapshot.items):
        return _searched(snapshot, question, question.parts.query, question.depth * _WIDER)
    return items[places], scores[places]


def nearest(snapshot: Snapshot, question: Question, vector: Floats) -> tuple[Ints, Floats]:
    """The items of the question's field nearest to a vector (D,), best first, and their scores."""
    mask = question.field.mask
    if mask is None:
        return _searched(snapshot, question, vector, question.depth)
    size = int(np.count_nonzero(mask))
    if size <= LARGEST_LISTED:
        return _scored(snapshot, question, vector, np.flatnonzero(mask & snapshot.items.servable))
    return _searched(snapshot, question, vector, question.depth * len(mask) // size)


def _searched(snapshot: Snapshot, question: Question, vector: Floats, depth: int) -> tuple[Ints, Floats]:
    """Search to this depth, and ever deeper until enough items remain or all were looked at."""
    while depth < len(snapshot.items):
        items, scores = snapshot.index.search(vector[None], depth)
        places = question.keeps(items[0])
        if len(places) >= question.wanted:
            return items[0, places], scores[0, places]
        depth *= _WIDER
    return _scored(snapshot, question, vector, np.flatnonzero(snapshot.items.servable))


def _scored(snapshot: Snapshot, question: Question, vector: Floats, items: Ints) -> tuple[Ints, Floats]:
    """Score these items exactly."""
    items = items[question.keeps(items)]
    scores = snapshot.index.score(vector, items)
    order = np.argsort(-scores, kind="stable")
    return items[order], scores[order]
