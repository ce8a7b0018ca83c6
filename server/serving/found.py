"""What a search lists: items that hold its words, fuller matches first, then items close to it in meaning.

Exact matches never lose to vague ones: the share of the query that an item holds makes tiers, the score (meaning,
taste, prior) orders a tier, and items that hold none of the words come after all that do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from server.serving.nearest import LARGEST_LISTED, Candidates, Question, nearest
from server.serving.snapshot import Floats, Snapshot
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
    """The items that hold words, from as many of the fullest tiers as are needed, and their tiers from 1 up."""
    nobody = np.empty(0, dtype=np.int64)
    if matches is None:
        return nobody, nobody
    kept = matches.items[snapshot.items.servable[matches.items]]
    kept = kept[question.keeps(kept)]
    coverage = matches.coverage[np.searchsorted(matches.items, kept)]
    levels, tier_of = np.unique(coverage, return_inverse=True)
    chosen = [nobody]
    for tier in range(len(levels) - 1, -1, -1):
        chosen.append(_by_score(snapshot, question.parts.query, kept[tier_of == tier]))
        if sum(map(len, chosen)) >= question.wanted:
            break
    highest = len(levels)
    tiers = [np.full(len(items), highest + 1 - place) for place, items in enumerate(chosen)]
    return np.concatenate(chosen), np.concatenate(tiers)


def _by_score(snapshot: Snapshot, query: Floats, items: Ints) -> Ints:
    """Items of one tier, best first; of a very large tier the most popular ones."""
    if len(items) > LARGEST_LISTED:
        priors = snapshot.index.vectors[items, -1]
        items = np.sort(items[np.argpartition(-priors, LARGEST_LISTED)[:LARGEST_LISTED]])
    return items[np.argsort(-snapshot.index.score(query, items), kind="stable")]


def _close_in_meaning(snapshot: Snapshot, question: Question, exact: Ints) -> Ints:
    """Items near the vector of the words, in the order of the whole score; none where the words mean nothing here.

    An encoder of words alone knows nothing of words that no item holds.
    """
    text, matches = question.parts.text, question.parts.matches
    held = matches is not None and len(matches.items)
    if text is None or not (held or snapshot.reader.reads_sentences):
        return exact[:0]
    meaning = np.zeros_like(question.parts.query)
    meaning[: snapshot.dim] = text
    deeper = replace(question, wanted=question.wanted + len(exact))
    items, likeness = nearest(snapshot, deeper, meaning)
    vectors = snapshot.index.vectors[items, : snapshot.dim]
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(text)
    close = items[likeness >= CLOSE * lengths]
    close = close[~np.isin(close, exact)][: question.wanted - len(exact)]
    order = np.argsort(-snapshot.index.score(question.parts.query, close), kind="stable")
    return np.asarray(close[order], dtype=np.int64)
