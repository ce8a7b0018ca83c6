"""A sample of the 10^6 answers that `evaluation.bench.ranking_answers` judges, and the judge itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.bench.ranking_answers import (
    FAULTS,
    KNOBS,
    Shop,
    answer_rows,
    check_answers,
    faults_of,
    make_shop,
    questions,
)
from evaluation.bench.ranking_world import NOW
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import Policy
from server.serving.promotions import Promotion
from server.serving.query import PastEvent, RankQuery, Surface
from server.serving.ranking import Ranking

ANSWERS = 1_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop of 400 items."""
    return make_shop(tmp_path_factory.mktemp("shop"), items=400)


@pytest.fixture(scope="module", params=[False, True], ids=["no knobs", "every knob"])
def engine(request: pytest.FixtureRequest, shop: Shop) -> Engine:
    """Its engine."""
    policy = Policy(surfaces=dict.fromkeys(Surface, KNOBS)) if request.param else Policy()
    return Engine.load(Registry(shop.folder / "registry"), shop.folder / "catalogue.parquet", policy=policy)


def test_no_answer_repeats_an_item_or_lists_one_that_is_hidden_seen_withdrawn_or_expired(
    shop: Shop, engine: Engine
) -> None:
    """1,000 answers of all surfaces; most of them hold items, so that the zeros say something."""
    found = check_answers(shop, engine, ANSWERS)
    assert {fault: found[fault] for fault in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert found["answers"] == ANSWERS
    assert found["items"] > 3 * ANSWERS


def test_the_questions_try_what_they_are_to_try(shop: Shop) -> None:
    """Every surface, filters, sessions, and candidates that have to be left out."""
    asked = questions(shop, seed=1)
    sample = [next(asked) for _ in range(500)]
    assert {query.surface for query in sample} == set(Surface)
    assert any(query.categories for query in sample) and any(query.merchants for query in sample)
    assert any(query.session for query in sample) and any(not query.exclude_seen for query in sample)
    assert len(shop.withdrawn) > 40 and len(shop.promoted) > 40 and shop.new


def answer(engine: Engine, query: RankQuery, items: list[int], **words: Any) -> Ranking:
    """An answer with these rows of the catalogue."""
    return replace(engine.rank([query])[0], items=np.array(items, dtype=np.int64), **words)


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"unknown", "mixed"}))
def test_the_judge_sees_each_fault(shop: Shop, engine: Engine, fault: str) -> None:
    """An answer with one thing wrong is at fault for that, and a right one for nothing."""
    ids = list(shop.facts)
    good = [row for row, item in enumerate(ids) if item not in shop.withdrawn and item not in shop.promoted]
    new = [row for row in good if ids[row] in shop.new]
    other = next(row for row in good if shop.facts[ids[row]] != shop.facts[ids[good[0]]])
    home = RankQuery(surface=Surface.HOME, k=2, timestamp=NOW)
    bought = [PastEvent(item_id=ids[good[0]], kind="purchase", time=NOW - 5)]
    merchant = shop.facts[ids[good[0]]][1]
    cases: dict[str, tuple[RankQuery, list[int], list[int]]] = {
        "long": (home, good[:3], good[:2]),
        "repeated": (home, [good[0], good[0]], good[:2]),
        "withdrawn": (home, [ids.index(min(shop.withdrawn))], good[:1]),
        "hidden": (replace(home, hidden=(ids[good[0]],)), good[:1], good[1:2]),
        "seen": (replace(home, history=bought), good[:1], good[1:2]),
        "filtered": (replace(home, merchants=(merchant,)), [other], good[:1]),
        "expired": (replace(home, surface=Surface.PROMOTION), good[:1], []),
        "old": (
            replace(home, surface=Surface.NEW_ARRIVALS),
            [row for row in good if row not in new][:1],
            new[:1],
        ),
    }
    query, wrong, right = cases[fault]
    version = engine.snapshot.version
    assert faults_of(shop, query, answer(engine, query, wrong, promotions={}), version) == [fault]
    assert faults_of(shop, query, answer(engine, query, right, promotions={}), version) == []


def test_the_judge_sees_an_expired_promotion_beside_an_item_and_another_version(
    shop: Shop, engine: Engine
) -> None:
    """What is shown of an item counts as well."""
    query = RankQuery(surface=Surface.PROMOTION, k=1, timestamp=NOW)
    right = engine.rank([query])[0]
    assert len(right.items) == 1
    version = engine.snapshot.version
    assert faults_of(shop, query, right, version) == []
    assert faults_of(shop, query, right, "another") == ["mixed"]
    over = {0: Promotion(promotion_id="p", kind="coupon", ends=NOW)}
    assert faults_of(shop, query, replace(right, promotions=over), version) == ["expired"]


def test_the_rows_of_the_bench_name_every_fault_with_its_target_of_none(tmp_path: Path) -> None:
    """A missed target would be seen."""
    rows = answer_rows(tmp_path, 200)
    assert len(rows) == len(FAULTS) + 1
    assert all(row.met and row.target == 0 for row in rows[:-1])
    assert rows[-1].value > 600
