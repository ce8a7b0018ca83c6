"""The surfaces bench on a small shop: one private model, all its exams, rows and a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_surfaces_engine import shop

from evaluation.baselines import popularity
from evaluation.bench import surfaces
from evaluation.bench.recipes import Recipe
from evaluation.bench.surfaces_floor import Floor
from evaluation.bench.surfaces_judging import Judged, judge_plan
from evaluation.bench.surfaces_page import BEGIN, END, Everything, page
from evaluation.bench.surfaces_studies import PLANS, Learning, Plan, Study, paper
from evaluation.bench.surfaces_words import WordCheck, check, chinese_catalogue
from evaluation.errors import ReportError
from evaluation.settings import Surfaces
from evaluation.surfaces_baselines import by_shopper
from evaluation.surfaces_cuts import home_exam, promotion_exam, week_cut
from simulation.data import Dataset


def studies(dataset: Dataset, most: int) -> list[Study]:
    """Home and promotion of a shop's last week, against popularity."""
    cut = week_cut(dataset)
    rankers = {"popularity": by_shopper(popularity(cut.split, 0))}
    papers = tuple(paper(exam, rankers, most) for exam in (home_exam(cut), promotion_exam(cut)))
    return [Study(dataset=dataset, split=cut.split, papers=papers)]


@pytest.fixture(scope="module")
def found() -> list[Judged]:
    """What one noise seed found; three questions to an exam."""
    learning = Learning(recipe=Recipe(dim=8), surfaces=Surfaces.HOME)
    plan = Plan(name="toy", data=None, learning=learning, studies=studies)
    return judge_plan(plan, plan.studies(shop(), 3), (1,), lambda: None)


def test_every_exam_is_answered_by_a_private_and_an_exact_model(found: list[Judged]) -> None:
    """Both went through the engine; the shoppers are those of the exam, and the same for every ranker."""
    assert [one.surface.value for one in found] == ["home", "promotion"]
    for one in found:
        assert one.questions == one.shoppers == 3
        assert one.exact is not None
        others = (one.exact, *one.baselines.values())
        assert all(result.shoppers.tolist() == one.ours.shoppers.tolist() for result in others)
        assert 0 < one.delta < 1 and set(one.spread) == {"ndcg@10", "recall@20"}


def test_rows_hold_figures_and_the_lower_ends_of_differences(found: list[Judged]) -> None:
    """Each row has words of its own; being above a simple ranker is the target."""
    rows = [row for one in found for row in surfaces.rows_of(one)]
    assert len({row.measure for row in rows}) == len(rows) == 6
    assert [row.target for row in rows[:3]] == [None, None, 0.0]
    assert "epsilon 8" in rows[0].measure and "(simulated (made by a test))" in rows[0].measure


def test_the_page_changes_between_its_marks_only(found: list[Judged]) -> None:
    """What is written by hand stays; the tables name epsilon, label, intervals and who is above."""
    words = WordCheck(name="titles", queries=2, listed=9, wrong=0)
    floor = Floor(name="toy", floor=0.2, places=0.25, found=0.1)
    everything = Everything(judged=found, checks=[words], floors=[floor], config="c0ffee", seeds=1)
    new = page(f"By hand.\n{BEGIN}\nyesterday\n{END}\nThe end.\n", everything)
    assert new.startswith("By hand.\n") and new.endswith(f"{END}\nThe end.\n") and "yesterday" not in new
    for text in (
        "c0ffee",
        "fedrank, epsilon 8",
        "simulated (made by a test)",
        "| titles | 2 | 9 | 0 |",
        "0.2500",
    ):
        assert text in new
    assert any(side in new for side in ("above", "below", "not apart"))
    assert page(new, everything) == new
    with pytest.raises(ReportError, match="lacks the line"):
        page("no marks", everything)


def test_the_page_of_the_project_has_its_marks() -> None:
    """The bench can always write its tables there."""
    text = (Path(__file__).resolve().parents[2] / surfaces.PAGE).read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)


def test_the_configuration_is_hashed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another recipe is another hash."""
    before = surfaces.config()
    monkeypatch.setattr(surfaces, "PLANS", PLANS[:1])
    assert surfaces.config() != before


def test_chinese_searches_keep_the_order_of_words_whatever_the_taste() -> None:
    """Strong random tastes never put an item above one that holds more of what was typed."""
    items = chinese_catalogue()[::5]
    found = check("Chinese", items, ["红色纯棉短袖", "红色 短袖", "大号", "真丝", "袖"])
    assert found.listed > 100 and found.wrong == 0
    assert found.row().met
