"""The knobs bench: what it measures of lists, how it tests reasons, and the table that it writes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.bench import knobs
from evaluation.bench.knobs_lists import POOL, Asked, Qualities, merits_of, qualities
from evaluation.bench.knobs_reasons import deletions, reason_rows
from evaluation.bench.ranking_answers import Shop, make_shop
from evaluation.bench.ranking_world import NOW
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import OFF, Policy, SurfacePolicy
from server.serving.query import PastEvent, RankQuery, Surface

SHOPPERS = 60


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop of 600 items."""
    return make_shop(tmp_path_factory.mktemp("shop"), items=600)


@pytest.fixture(scope="module")
def asked(shop: Shop) -> Asked:
    """Home for shoppers with ten events each, who wanted one item more."""
    random = np.random.default_rng(2)
    ids = list(shop.facts)
    queries = [
        RankQuery(
            surface=Surface.HOME,
            k=10,
            timestamp=NOW,
            history=[
                PastEvent(item_id=ids[row], kind="view", time=NOW - 3600 * int(row))
                for row in random.integers(0, len(ids), 10)
            ],
            reasons=False,
            seed=str(number),
        )
        for number in range(SHOPPERS)
    ]
    return Asked(queries=queries, wanted=[random.integers(0, len(ids), 1) for _ in queries])


def engine_with(shop: Shop, policy: SurfacePolicy) -> Engine:
    """The shop's engine with these knobs on home."""
    surfaces = Policy(surfaces={Surface.HOME: policy})
    return Engine.load(Registry(shop.folder / "registry"), shop.folder / "catalogue.parquet", policy=surfaces)


@pytest.fixture(scope="module")
def plain(shop: Shop, asked: Asked) -> Qualities:
    """What lists are like with every knob off."""
    return measured(shop, asked, OFF)


def measured(shop: Shop, asked: Asked, policy: SurfacePolicy) -> Qualities:
    """What lists are like under a policy."""
    pool = Asked(queries=[replace(query, k=POOL) for query in asked.queries], wanted=asked.wanted)
    merits = merits_of(engine_with(shop, OFF), pool)
    assert merits.sum() == pytest.approx(1)
    return qualities(engine_with(shop, policy), asked, merits)


@pytest.mark.parametrize(
    ("policy", "quality", "more"),
    [
        (SurfacePolicy(diversity=0.7), "diversity", True),
        (SurfacePolicy(category_quota=1), "of_one_category", False),
        (SurfacePolicy(merchant_quota=1), "of_one_merchant", False),
        (SurfacePolicy(long_tail_share=0.9), "tail", True),
        (SurfacePolicy(fresh_share=0.3), "fresh", True),
        (SurfacePolicy(fairness=1.0), "gap", False),
        (SurfacePolicy(exploration_share=0.3), "drawn", True),
    ],
)
def test_each_knob_moves_what_it_is_for(
    shop: Shop, asked: Asked, plain: Qualities, policy: SurfacePolicy, quality: str, more: bool
) -> None:
    """In the direction that its name says."""
    before, after = getattr(plain, quality), getattr(measured(shop, asked, policy), quality)
    assert after > before if more else after < before


def test_a_floor_of_fresh_items_is_met_although_none_would_be_a_candidate(
    shop: Shop, asked: Asked, plain: Qualities
) -> None:
    """The items listed last join the candidates where a floor asks for them."""
    assert plain.fresh < 0.1
    assert measured(shop, asked, SurfacePolicy(fresh_share=0.5)).fresh >= 0.5


def test_a_quality_is_what_a_count_by_hand_says(shop: Shop, asked: Asked, plain: Qualities) -> None:
    """Coverage, and the largest merchant of each list."""
    engine = engine_with(shop, OFF)
    answers = [ranking.listed() for ranking in engine.rank(asked.queries)]
    shown = {item.item_id for answer in answers for item in answer}
    largest = [
        max([item.merchant_id for item in answer].count(name) for name in {i.merchant_id for i in answer})
        for answer in answers
    ]
    assert plain.coverage == pytest.approx(len(shown) / 600)
    assert plain.of_one_merchant == pytest.approx(float(np.mean(largest)))


def test_every_item_falls_without_the_cause_that_was_named(shop: Shop, asked: Asked) -> None:
    """The deletion test finds named causes, and each of them holds."""
    found = deletions(engine_with(shop, OFF), asked.queries[:10])
    assert found.items == 100
    assert found.named > 50
    assert found.lower_score >= 0.9 * found.named
    assert reason_rows(found)[1].met


def test_the_table_has_a_line_for_each_setting_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands around it stays, and a second run writes the same."""
    one = Qualities(**dict.fromkeys((field.name for field in fields(Qualities)), 0.5))
    page = tmp_path / "policy.md"
    page.write_text(f"before\n{knobs.BEGIN}\nold\n{knobs.END}\nafter\n")
    monkeypatch.setattr(knobs, "PAGE", page)
    text = knobs.table(one, knobs.QUICK, [one] * len(knobs.QUICK), 1234)
    for _ in range(2):
        knobs._write(text)
        assert page.read_text() == f"before\n{knobs.BEGIN}\n{text}\n{knobs.END}\nafter\n"
    assert text.count("| 100.0% |") == 1 + len(knobs.QUICK)


def test_a_knob_that_gains_nothing_is_a_missed_target() -> None:
    """More diversity is asked for, a smaller gap, and of a share all that was promised."""
    one = Qualities(**dict.fromkeys((field.name for field in fields(Qualities)), 0.5))
    worse = replace(one, diversity=0.4, gap=0.6)
    sweep = (("diversity", 0.3), ("fairness", 0.3), ("fresh_share", 0.6), ("fresh_share", 0.4))
    rows = knobs.rows_of(one, sweep, [worse] * 4)
    assert [row.met for row in rows] == [None, None, False, None, False, None, False, None, True]
