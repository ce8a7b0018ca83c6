"""The items of a question's field with the largest inner product, without those that are barred."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.serving.fields import Field
from server.serving.kernels_search import keep
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
LISTED = -1
"""The moment of a question at which every item with a date is listed."""


class Question(NamedTuple):
    """A question with all that its candidates depend on; at least `wanted` of them, where there are so many.

    Attributes:
        moment: in Unix seconds, by which an item has to be listed; `LISTED` where all are.
        freshest: whether the items listed last are candidates whatever their score.
    """

    query: RankQuery
    profile: Profile
    parts: Parts
    field: Field
    wanted: int
    moment: int = LISTED
    freshest: bool = False

    @property
    def depth(self) -> int:
        """How many items to look for so that enough stay when the barred ones are left out, as a rule."""
        more = -len(self.profile.barred) // _STEP * -_STEP
        return self.wanted + min(more, _MORE_FOR_BARRED)

    def keeps(self, snapshot: Snapshot, items: Ints) -> Ints:
        """Places of the items that may be listed: not barred, in the field, listed by now; an item -1 is none."""
        places = np.flatnonzero((items >= 0) & ~np.isin(items, self.profile.barred))
        if self.moment != LISTED:
            places = places[snapshot.items.listed_at[items[places]] <= self.moment]
        return places if self.field.mask is None else places[self.field.mask[items[places]]]


class Candidates(NamedTuple):
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
    """The nearest items of questions of one batch over the whole catalogue, best first, and their scores.

    What a question gets does not depend on those beside it: an exact index is searched once, to the greatest depth,
    and each row is cut to its question's; one that is not exact finds other items at another depth, so it is searched
    once for each depth.
    """
    if not questions:
        return []
    depths = [question.depth for question in questions]
    if snapshot.index.exact or len(set(depths)) == 1:
        return list(_together(snapshot, questions, depths, max(depths)))
    answers: dict[int, tuple[Ints, Floats]] = {}
    for depth in set(depths):
        rows = [row for row, own in enumerate(depths) if own == depth]
        alike = [questions[row] for row in rows]
        answers |= zip(rows, _together(snapshot, alike, [depth] * len(rows), depth), strict=True)
    return [answers[row] for row in range(len(questions))]


def _together(
    snapshot: Snapshot, questions: Sequence[Question], depths: Sequence[int], deepest: int
) -> Iterator[tuple[Ints, Floats]]:
    """Search once for all; a question of which too little may be listed is searched for again by itself."""
    profiles, composed = questions[0].profile.batch, questions[0].parts.batch
    rows = np.array([question.profile.row for question in questions])
    items, scores = snapshot.index.search(composed.fused.query[rows], deepest)
    within = np.minimum(depths, items.shape[1])
    begins = np.concatenate([[0], profiles.ends])[rows]
    moments = np.array([question.moment for question in questions])
    kept = np.empty(len(rows), dtype=np.int64)
    mine = profiles.barred, begins, profiles.ends[rows]
    keep(items, scores, within, *mine, moments, snapshot.items.listed_at, kept)
    for row, (question, count) in enumerate(zip(questions, kept.tolist(), strict=True)):
        if count < question.wanted and depths[row] < len(snapshot.items):
            yield _searched(snapshot, question, question.parts.query, depths[row] * _WIDER)
        else:
            yield items[row, :count], scores[row, :count]


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
        places = question.keeps(snapshot, items[0])
        if len(places) >= question.wanted:
            return items[0, places], scores[0, places]
        depth *= _WIDER
    return _scored(snapshot, question, vector, np.flatnonzero(snapshot.items.servable))


def _scored(snapshot: Snapshot, question: Question, vector: Floats, items: Ints) -> tuple[Ints, Floats]:
    """Score these items exactly."""
    items = items[question.keeps(snapshot, items)]
    scores = snapshot.index.score(vector, items)
    order = np.argsort(-scores, kind="stable")
    return items[order], scores[order]
