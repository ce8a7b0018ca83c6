"""Exams put to the serving engine: a trained version over the catalogue that it serves, and what it lists."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from evaluation.metrics import NOBODY, Indices
from evaluation.releasing import signing_registry
from evaluation.surfaces import LONGEST, Exam, Question, barred
from model.features import KINDS
from server.registry import ModelVersion
from server.serving.engine import Engine
from server.serving.policy import Policy
from server.serving.query import Events, PastEvent, RankQuery, Surface
from simulation.population import CATALOGUE_COLUMNS, PROMOTIONS_FILE

BATCH = 64
_PUBLIC = (*CATALOGUE_COLUMNS, "listed_at", "new_arrival")


def engine_of(folder: Path, exam: Exam, version: ModelVersion, policy: Policy | None = None) -> Engine:
    """Put a version and the exam's catalogue into a run folder, and open the engine on it as `fedrank serve` does."""
    registry, signer = signing_registry(folder, "surfaces")
    registry.promote(registry.add(version.weights, version.card, signer).version)
    columns = [name for name in _PUBLIC if name in exam.items.columns]
    exam.items.select(columns).write_parquet(folder / "catalogue.parquet")
    if exam.promotions is not None:
        exam.promotions.write_parquet(folder / PROMOTIONS_FILE)
    return Engine.load(registry, folder / "catalogue.parquet", policy=policy or Policy())


def answers(engine: Engine, exam: Exam, depth: int = LONGEST) -> Indices:
    """Return what the engine lists for every question, (questions, depth), as item indices of the exam."""
    histories = _histories(exam)
    index = {item: place for place, item in enumerate(exam.split.items)}
    lists = np.full((len(exam.questions), depth), NOBODY, dtype=np.int64)
    for start in range(0, len(exam.questions), BATCH):
        block = exam.questions[start : start + BATCH]
        queries = [query_of(exam, question, histories[question.shopper], depth) for question in block]
        for place, ranking in enumerate(engine.rank(queries), start=start):
            listed = [index[item.item_id] for item in ranking.listed()]
            lists[place, : len(listed)] = listed
    return lists


def query_of(exam: Exam, question: Question, history: Events, depth: int) -> RankQuery:
    """Return a question as a shop would ask it: the history is sent along and not stored."""
    items = exam.split.items
    on_cart = exam.surface is Surface.CART
    basket = tuple(
        PastEvent(item_id=items[item], kind="add_to_cart", time=question.moment)
        for item in (question.anchors.tolist() if on_cart else [])
    )
    return RankQuery(
        surface=exam.surface,
        k=depth,
        timestamp=question.moment,
        history=history,
        session=(*question.session, *basket),
        words=question.words,
        item_id=items[int(question.anchors[0])] if exam.surface is Surface.DETAIL else "",
        exclude_seen=not exam.keeps_known,
        hidden=tuple(items[item] for item in barred(exam, question).tolist()),
        reasons=False,
    )


def _histories(exam: Exam) -> list[Events]:
    """Return the train events of every shopper of the split, oldest first."""
    train = exam.split.train
    ends = np.searchsorted(train["shopper"].to_numpy(), np.arange(len(exam.split.shoppers) + 1)).tolist()
    kinds = train["kind"].replace_strict({kind: place for place, kind in enumerate(KINDS)}).to_list()
    items, times = train["item_id"].to_list(), train["timestamp"].to_list()
    return [
        Events.of_columns(items[start:end], kinds[start:end], times[start:end])
        for start, end in pairwise(ends)
    ]
