"""Exams put to the serving engine, and the bench of all surfaces on a small shop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evaluation_world import Row, dataset, random_dataset

from evaluation.metrics import NOBODY, Indices
from evaluation.split import Split, SplitKind, split
from evaluation.surfaces import Exam, allowed, judge
from evaluation.surfaces_cuts import cart_exam, home_exam, promotion_exam, week_cut
from evaluation.surfaces_engine import answers, engine_of
from evaluation.surfaces_sessions import beside_exam, next_item_exam, search_exam
from evaluation.surfaces_words import QueryStyle
from model.content import CONTENT_FEATURES
from model.schema import Schema, Weights
from server.registry import ModelVersion
from simulation.data.dataset import Dataset


def shop(seed: int = 3) -> Dataset:
    """A random shop with a catalogue as it is served, promotions of some items, baskets and weeks."""
    data = random_dataset(seed, shoppers=40, items=60, count=900)
    ids = data.items["item_id"]
    columns = {name: [f"{name} {item}" for item in ids] for name in ("category", "brand", "description")}
    items = pl.DataFrame(
        {"item_id": ids, "title": [f"thing number {item}" for item in ids], "merchant_id": ["m"] * len(ids)}
        | columns
        | {"price": [1.0] * len(ids)}
    )
    weeks = {"starts": [0] * 20, "ends": [10_000_000] * 20, "kind": ["coupon"] * 20, "text": [""] * 20}
    promotions = pl.DataFrame({"promotion_id": ids[:20], "item_id": ids[:20], **weeks}).with_columns(
        discount=pl.lit(None, dtype=pl.Float64), least_quantity=pl.lit(None, dtype=pl.Int64)
    )
    events = data.events.with_columns(
        pl.col("timestamp") // 100_000 * 400_000,
        kind=pl.lit("purchase"),
        quantity=pl.lit(1.0),
        price=pl.lit(2.0),
    )
    return replace(data, events=events, items=items, promotions=promotions)


def version(items: int, wanted: Indices | None = None) -> ModelVersion:
    """Weights of random taste, or with a prior that puts the wanted items first for everybody."""
    random = np.random.default_rng(0)
    weights: Weights = Schema(items=items, content_features=CONTENT_FEATURES, dim=8).zeros()
    weights["item_id"] = random.standard_normal((items, 8)).astype(np.float32)
    weights["gain"][:] = 1.0
    if wanted is not None:
        weights["item_id"][:] = 0.0
        weights["item_bias"][wanted] = 5.0
        weights["prior_scale"][:] = 1.0
    return ModelVersion(version="", content_hash="", weights=weights, card={"clock": "seconds"})


def exams(data: Dataset) -> list[Exam]:
    """One exam of every kind that a random shop allows."""
    week, last = week_cut(data), split(data, SplitKind.LAST)
    return [
        home_exam(week),
        cart_exam(week, 0),
        promotion_exam(week),
        next_item_exam(data, last),
        beside_exam(data, last),
        search_exam(data, last, QueryStyle.SPECIFIC, 0),
    ]


@pytest.mark.parametrize("number", range(6))
def test_the_engine_answers_every_exam_with_candidates_only(number: int, tmp_path: Path) -> None:
    """Whatever is asked, no list holds an item twice or one that is barred: else `judge` would refuse it."""
    exam = exams(shop())[number]
    lists = answers(engine_of(tmp_path, exam, version(60)), exam)
    found = judge("engine", lists, exam)
    assert 0.0 <= found.mean("recall@50") <= 1.0
    if exam.surface not in ("search",):
        sizes = [min(50, int(allowed(exam, question).sum())) for question in exam.questions]
        assert ((lists != NOBODY).sum(axis=1) == sizes).all(), "full ranking: every candidate can be listed"


def test_a_model_that_knows_the_answer_gets_it_right(tmp_path: Path) -> None:
    """Item numbers of the exam, of the catalogue and of the model are the same: a prior on one item is found."""
    rows: list[Row] = [(f"s{s}", f"i{k}", "purchase", 100 * k + s) for s in range(6) for k in range(3)]
    names = [f"i{k}" for k in range(9)]
    data = replace(shop(), events=dataset(rows).events, promotions=None)
    data = replace(data, items=data.items[: len(names)].with_columns(pl.Series("item_id", names)))
    cut: Split = split(data, SplitKind.LAST)
    exam = next_item_exam(data, cut)
    wanted = np.unique(np.concatenate([question.wanted for question in exam.questions]))
    assert wanted.size == 1
    lists = answers(engine_of(tmp_path, exam, version(len(names), wanted)), exam)
    assert judge("oracle", lists, exam).mean("ndcg@10") == 1.0


def test_promotions_at_the_endpoint_are_those_of_the_exam(tmp_path: Path) -> None:
    """The engine reads the run's promotions file, and lists what is valid at the moment of the question alone."""
    exam = promotion_exam(week_cut(shop()))
    lists = answers(engine_of(tmp_path, exam, version(60)), exam)
    assert all(set(row[row != NOBODY].tolist()) == set(range(20)) for row in lists)
