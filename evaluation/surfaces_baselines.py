"""The named simple rankers that a surface is held against. All but BM25 and content read raw train events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp

from evaluation.linear import unit_rows
from evaluation.metrics import Indices, Scores
from evaluation.neighbours import neighbours
from evaluation.protocol import Scorer
from evaluation.split import Csr, Split
from evaluation.surfaces import Question, QuestionScorer

NEIGHBOURS = 200
"""Most similar items that an item keeps."""


def by_shopper(scorer: Scorer) -> QuestionScorer:
    """Return a ranker that looks at the shopper's train events alone."""
    return lambda questions: scorer(np.array([question.shopper for question in questions], dtype=np.int64))


def together(groups: Indices, items: Indices, count: int) -> QuestionScorer:
    """Score an item by the cosines of its co-occurrence with the anchors, summed.

    Args:
        groups: (events,) the basket, session or shopper of each train event.
        items: (events,) its item.
        count: of items in the catalogue.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    ones = np.ones(len(items), dtype=np.float32)
    pairs = sp.csr_matrix((ones, (numbers, items)), shape=(int(numbers.max()) + 1, count))
    pairs.sum_duplicates()
    pairs.data[:] = 1.0
    towards = sp.csr_matrix(neighbours(pairs, NEIGHBOURS).T)
    return lambda questions: np.asarray((anchors_of(questions, count) @ towards).toarray())


def anchors_of(questions: Sequence[Question], count: int) -> Csr:
    """Return ones at the anchors of each question, (questions, items)."""
    sizes = [question.anchors.size for question in questions]
    columns = np.concatenate([question.anchors for question in questions])
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    return sp.csr_matrix(
        (np.ones(len(columns), dtype=np.float32), columns, indptr), shape=(len(sizes), count)
    )


def baskets_of(split: Split) -> Indices:
    """Return the basket of each train event, (events,): one shopper's events of one timestamp."""
    keys = split.train.select("shopper", "timestamp").to_numpy()
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)


def content_of_anchors(features: Csr) -> QuestionScorer:
    """Score an item by the cosine of its public features and the anchors' mean; nothing is learned."""
    vectors = unit_rows(features)

    def score(questions: Sequence[Question]) -> Scores:
        return np.asarray(
            (unit_rows(anchors_of(questions, vectors.shape[0]) @ vectors) @ vectors.T).toarray()
        )

    return score


def popularity_in_category(split: Split, categories: Sequence[str | None]) -> Scorer:
    """Score an item by its audience times the share of its category in the shopper's own train events.

    Items of categories that the shopper has not touched follow, by their audience alone.
    """
    audience = np.bincount(split.positives.indices, minlength=len(split.items)).astype(np.float64)
    kind = np.unique([category or "" for category in categories], return_inverse=True)[1]
    sorts = sp.csr_matrix((np.ones(len(kind), dtype=np.float32), (np.arange(len(kind)), kind)))
    behind = audience / (1.0 + audience.sum()) / len(split.items)

    def score(shoppers: Indices) -> Scores:
        counts = np.asarray((split.positives[shoppers] @ sorts).toarray())
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return np.asarray(shares[:, kind] * audience + behind)

    return score


def bm25(texts: Sequence[str], words_of: Callable[[str], list[str]]) -> QuestionScorer:
    """Score items by Okapi BM25 of the query (library bm25s, its defaults k1 = 1.5, b = .75, Lucene's form)."""
    import bm25s

    index = bm25s.BM25()
    index.index([words_of(text) for text in texts], show_progress=False)

    def score(questions: Sequence[Question]) -> Scores:
        return np.stack([index.get_scores(words_of(question.words)) for question in questions])

    return score
