"""Which items may be listed, and in what order, for every surface but search, whose order is `found`'s.

The neighbours of the session, what goes with the basket and the popular are all in the one inner product that the
index searches. The freshest items are added to what it finds, because freshness counts on candidates only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.features import FUSION_FEATURES
from server.serving.fields import field_of
from server.serving.found import found
from server.serving.nearest import LISTED, Candidates, Question, nearest, together
from server.serving.pools import freshness, pools_of
from server.serving.profile import Profile
from server.serving.query import Surface
from server.serving.scoring import Composed, Parts
from server.serving.snapshot import Floats, Snapshot

Ints = npt.NDArray[np.int64]

_FRESH = FUSION_FEATURES.index("fresh")


def generate(
    snapshot: Snapshot,
    composed: Composed,
    wanted: Sequence[int],
    freshest: Sequence[bool],
) -> list[Candidates]:
    """The candidates of each question, best first: at least `wanted`, with the `freshest` items where a floor asks.

    What ranks the whole catalogue is searched for together.
    """
    pools = pools_of(snapshot)
    questions = []
    for row, (one, count, fresh) in enumerate(zip(composed.profiles.asked, wanted, freshest, strict=True)):
        profile, parts = Profile(composed.profiles, row), Parts(composed, row)
        moment = one.query.timestamp if pools.latest > one.query.timestamp else LISTED
        field = field_of(snapshot, one.query)
        questions.append(Question(one.query, profile, parts, field, count, moment, fresh))
    plain = iter(together(snapshot, [question for question in questions if _is_plain(question)]))
    return [
        _ordered(snapshot, question, *next(plain)) if _is_plain(question) else _by_itself(snapshot, question)
        for question in questions
    ]


def _is_plain(question: Question) -> bool:
    return question.field.mask is None and question.query.surface is not Surface.SEARCH


def _by_itself(snapshot: Snapshot, question: Question) -> Candidates:
    if question.query.surface is Surface.SEARCH:
        return found(snapshot, question)
    return _ordered(snapshot, question, *nearest(snapshot, question, question.parts.query))


def _ordered(snapshot: Snapshot, question: Question, items: Ints, scores: Floats) -> Candidates:
    """The items that were found, with the extra ones, in the order of the whole score."""
    fresh = float(question.parts.weights[_FRESH])
    if fresh or question.freshest:
        extra = _freshest(snapshot, question, items)
        items = np.concatenate([items, extra])
        scores = np.concatenate([scores, snapshot.index.score(question.parts.query, extra)])
        scores += fresh * freshness(snapshot.items, items, question.query.timestamp)
        order = np.argsort(-scores, kind="stable")
        items, scores = items[order], scores[order]
    return Candidates(items, scores, notices=question.field.notices)


def _freshest(snapshot: Snapshot, question: Question, items: Ints) -> Ints:
    """The items listed last that may be listed here and are not among those found."""
    more = np.setdiff1d(pools_of(snapshot).freshest(question.query.timestamp), items)
    return more[question.keeps(snapshot, more)]
