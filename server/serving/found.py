"""What a search lists: items that hold its words, fuller matches first, then items close to it in meaning.

Exact matches never lose to vague ones: the share of the query that an item holds makes tiers, the score (meaning,
taste, prior) orders a tier, and items that hold none of the words come after all that do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.serving.nearest import LARGEST_LISTED, Candidates, Question, nearest
from server.serving.snapshot import Snapshot
from server.serving.words import Matches

Ints = npt.NDArray[np.int64]

CLOSE = 0.3
"""Least cosine between the vector of a query and that of an item that is called close in meaning."""


def found(snapshot: Snapshot, question: Question) -> Candidates:
    """The candidates of a search. A score is the tier plus a place within it, in (tier, tier + 1)."""
    exact, tiers = _holding_words(snapshot, question, question.parts.matches)
    vague = _close_in_meaning(snapshot, question, exact) if len(exact) < question.wanted else exact[:0]
    items = np.concatenate([exact, vague])
    tiers = np.concatenate([tiers, np.zeros(len(vague), dtype=np.int64)])
    places = np.arange(len(items), 0, -1) / (len(items) + 1)
    return Candidates(
        items=items, scores=(tiers + places).astype(np.float32), tiers=tiers, notices=question.field.notices
    )


def _holding_words(snapshot: Snapshot, question: Question, matches: Matches | None) -> tuple[Ints, Ints]:
    """The items that hold words, best first, and their tiers from 1 up: the fullest tiers, as many as are needed.

    Of the last tier there are as many as are wanted, though it may be most of the catalogue.
    """
    if matches is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(snapshot.items.servable[matches.items])
    rows = rows[question.keeps(snapshot, matches.items[rows])]
    shares, least = matches.shares[rows], 0
    if len(rows) > question.wanted:
        least = np.partition(shares, -question.wanted)[-question.wanted]
    fuller = rows[shares > least]
    rows = np.concatenate([fuller, _most_popular(snapshot, matches.items, rows[shares == least])])
    items, shares = matches.items[rows], matches.shares[rows]
    order = np.lexsort((-snapshot.index.score(question.parts.query, items), -shares))
    order = order[: len(fuller) + question.wanted]
    return items[order], np.unique(shares[order], return_inverse=True)[1] + 1


def _most_popular(snapshot: Snapshot, items: Ints, rows: Ints) -> Ints:
    """Of very many rows those of the most popular items."""
    if len(rows) <= LARGEST_LISTED:
        return rows
    priors = snapshot.index.vectors[items[rows], -1]
    return rows[np.sort(np.argpartition(-priors, LARGEST_LISTED)[:LARGEST_LISTED])]


def _close_in_meaning(snapshot: Snapshot, question: Question, exact: Ints) -> Ints:
    """Items near the vector of the words, in the order of the whole score; none where the words mean nothing here.

    An encoder of words alone knows nothing of words that no item holds, and a version nothing of words that came
    with items added since: their vector is zero.
    """
    text, matches = question.parts.reading.text, question.parts.matches
    held = matches is not None and len(matches.items)
    if text is None or not text.any() or not (held or snapshot.reader.reads_sentences):
        return exact[:0]
    meaning = np.zeros_like(question.parts.query)
    meaning[: snapshot.dim] = text
    deeper = question._replace(wanted=question.wanted + len(exact))
    items, likeness = nearest(snapshot, deeper, meaning)
    vectors = snapshot.index.vectors[items, : snapshot.dim]
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(text)
    close = items[(likeness >= CLOSE * lengths) & (lengths > 0)]
    close = close[~np.isin(close, exact)][: question.wanted - len(exact)]
    order = np.argsort(-snapshot.index.score(question.parts.query, close), kind="stable")
    return np.asarray(close[order], dtype=np.int64)
