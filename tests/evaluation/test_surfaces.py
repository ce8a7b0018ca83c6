"""Exams of the surfaces on tiny sets: what is asked, what may be learned from, and who could cheat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from evaluation_world import Row, dataset, random_dataset
from test_memory_ranker import leak_free, published

from evaluation.cold_items import cold_cut
from evaluation.errors import ProtocolError, SplitError
from evaluation.memory import NegativeSampler, memory_ranker
from evaluation.metrics import NOBODY
from evaluation.split import SplitKind, split
from evaluation.surfaces import Exam, Question, allowed, judge, lists_of
from evaluation.surfaces_baselines import by_shopper
from evaluation.surfaces_cuts import WEEK_SECONDS, cart_exam, home_exam, promotion_exam, valid_items, week_cut
from evaluation.surfaces_sessions import (
    SESSION_GAP,
    beside_exam,
    detail_exam,
    new_arrivals_exam,
    next_item_exam,
    session_split,
)
from server.serving.query import Surface
from simulation.data.dataset import Clock, Dataset

WEEK = 10 * WEEK_SECONDS
"""A moment at which the held-out week of `SHOP` begins."""
SHOP: list[Row] = [
    ("ann", "bread", "purchase", WEEK - 500),
    ("ann", "milk", "purchase", WEEK - 500),
    ("ann", "bread", "purchase", WEEK + 10),
    ("ann", "salt", "purchase", WEEK + 10),
    ("ann", "tea", "purchase", WEEK + 900),
    ("bob", "milk", "purchase", WEEK - 300),
    ("bob", "tea", "purchase", WEEK + 20),
    ("bob", "tea", "return", WEEK + 30),
    ("cid", "salt", "purchase", WEEK + 40),
    ("dot", "salt", "purchase", WEEK - 1),
    ("dot", "milk", "purchase", WEEK + WEEK_SECONDS - 1),
]
"""Ann comes twice in the week, Bob returns what he bought there, Cid is new, Dot comes in the last second."""
PROMOTIONS = {
    "promotion_id": ["old", "now", "soon"],
    "item_id": ["milk", "bread", "tea"],
    "starts": [0, WEEK, WEEK + 15],
    "ends": [WEEK + 10, WEEK + 500, WEEK + WEEK_SECONDS],
}


@pytest.fixture
def shop() -> Dataset:
    """The shop of SHOP with its promotions."""
    return replace(dataset(SHOP), promotions=pl.DataFrame(PROMOTIONS))


def asked(exam: Exam) -> dict[str, tuple[list[str], list[str], int]]:
    """Shopper -> wanted items, anchors and moment, by name."""
    items = np.array(exam.split.items)
    return {
        exam.split.shoppers[one.shopper]: (list(items[one.wanted]), list(items[one.anchors]), one.moment)
        for one in exam.questions
    }


def test_home_asks_for_the_first_basket_of_the_last_week(shop: Dataset) -> None:
    """Whole baskets, repeats included; a shopper without a past is not asked, a return is no wish."""
    exam = home_exam(week_cut(shop))
    assert asked(exam) == {
        "ann": (["bread", "salt"], [], WEEK + 10),
        "bob": (["tea"], [], WEEK + 20),
        "dot": (["milk"], [], WEEK + WEEK_SECONDS - 1),
    }
    assert all(allowed(exam, question).all() for question in exam.questions)


def test_a_model_behind_a_week_has_seen_nothing_of_it(shop: Dataset) -> None:
    """Train ends before the week for everybody; the validation cut is made of train alone, a week earlier."""
    data = random_dataset(3)
    cut = week_cut(replace(data, events=data.events.with_columns(pl.col("timestamp") * 4)))
    inner = cut.validation()
    for train, test in ((cut.split.train, cut.split.test), (inner.split.train, inner.split.test)):
        assert max(train["timestamp"]) < min(test["timestamp"])
    assert max(inner.split.test["timestamp"]) == max(cut.split.train["timestamp"])
    assert max(week_cut(shop).split.train["timestamp"]) == WEEK - 1


def test_cart_leaves_one_item_out_of_each_basket_of_two(shop: Dataset) -> None:
    """What is left is told, and is no answer; baskets of one item are not asked."""
    exam = cart_exam(week_cut(shop), seed=0)
    wanted, basket, _ = asked(exam)["ann"]
    assert asked(exam).keys() == {"ann"}
    assert sorted(wanted + basket) == ["bread", "salt"] and len(wanted) == 1
    (question,) = exam.questions
    assert not allowed(exam, question)[question.anchors].any()


def test_promotion_asks_among_items_with_a_promotion_at_that_moment(shop: Dataset) -> None:
    """Validity is starts <= moment < ends; what is bought later in the week counts, if it was promoted then."""
    exam = promotion_exam(week_cut(shop))
    assert {who: wanted for who, (wanted, _, _) in asked(exam).items()} == {"ann": ["bread"], "bob": ["tea"]}
    items = exam.split.items
    assert [items[i] for i in np.flatnonzero(allowed(exam, exam.questions[0]))] == ["bread"]
    assert [items[i] for i in np.flatnonzero(allowed(exam, exam.questions[1]))] == ["bread", "tea"]
    assert not valid_items(pl.DataFrame(PROMOTIONS), items, WEEK + WEEK_SECONDS).any()
    with pytest.raises(SplitError, match="no promotions"):
        promotion_exam(week_cut(dataset(SHOP)))


def test_a_set_without_seconds_has_no_weeks_and_no_sessions() -> None:
    """Both cuts name the clock."""
    for cut in (week_cut, session_split):
        with pytest.raises(SplitError, match="order"):
            cut(dataset(SHOP, clock=Clock.ORDER))


VISITS: list[Row] = [
    ("eve", "a", "view", 100),
    ("eve", "b", "view", 100 + SESSION_GAP + 1),
    ("eve", "b", "add_to_cart", 100 + SESSION_GAP + 5),
    ("eve", "c", "view", 100 + 2 * SESSION_GAP),
    ("eve", "d", "view", 100 + 3 * SESSION_GAP),
    ("eve", "a", "view", 900 + 9 * SESSION_GAP),
    ("fay", "a", "view", 50),
    ("fay", "b", "view", 60),
]
"""Eve's last session of two items is b, b into the cart, c, d; then a alone. Fay has one session only."""


def test_detail_asks_at_each_step_of_the_last_session_for_the_next_item() -> None:
    """The session so far is told up to the item in view and no further; the later lone event is dropped."""
    data = dataset(VISITS)
    cut = session_split(data)
    exam = detail_exam(data, cut)
    items = np.array(exam.split.items)
    steps = [
        (items[q.anchors][0], items[q.wanted][0], [e.item_id for e in q.session]) for q in exam.questions
    ]
    assert steps == [("b", "c", ["b"]), ("c", "d", ["b", "b", "c"])]
    assert [q.moment for q in exam.questions] == [101 + SESSION_GAP, 100 + 2 * SESSION_GAP]
    assert cut.shoppers == ("eve",) and cut.train["item_id"].to_list() == ["a"]


def test_detail_of_the_newest_item_bars_that_item() -> None:
    """The item in view is the newest of train, and never its own answer."""
    data = random_dataset(5)
    cut = split(data, SplitKind.LAST)
    exam = beside_exam(data, cut)
    assert exam.surface is Surface.DETAIL
    for question in exam.questions:
        own = cut.train.filter(pl.col("shopper") == question.shopper)["item"].to_list()
        assert question.anchors.tolist() == own[-1:] and not allowed(exam, question)[own[-1]]


def test_new_arrivals_lists_only_items_that_train_never_saw() -> None:
    """The flag of the served catalogue marks exactly the candidates."""
    data = random_dataset(6)
    cut = cold_cut(data, 0)
    exam = new_arrivals_exam(data, cut)
    marked = np.flatnonzero(exam.items["new_arrival"].to_numpy())
    assert marked.tolist() == cut.cold.tolist()
    assert not np.isin(cut.split.train["item"].to_numpy(), marked).any()
    assert all(np.isin(question.wanted, marked).all() for question in exam.questions)


def renamed_test(data: Dataset, change: Callable[[str], str]) -> Dataset:
    """The same events with another item in every held-out last event of a shopper."""
    last = pl.int_range(pl.len()).over("user_id") == pl.len().over("user_id") - 1
    swapped = pl.col("item_id").map_elements(change, pl.String)
    return replace(
        data,
        events=data.events.with_columns(pl.when(last).then(swapped).otherwise("item_id").alias("item_id")),
    )


def test_what_is_asked_does_not_depend_on_what_is_wanted() -> None:
    """Other held-out items change what is wanted and nothing that a ranker is told or may learn from."""
    rows: list[Row] = [(f"s{s}", f"i{s % 3}{k}", "purchase", 100 * k) for s in range(9) for k in range(4)]
    catalogue = [f"i{a}{b}" for a in range(3) for b in range(4)] + ["x", "y"]
    first, second = (
        next_item_exam(data, split(data, SplitKind.LAST))
        for data in (
            renamed_test(dataset(rows, items=catalogue), lambda _: "x"),
            renamed_test(dataset(rows, items=catalogue), lambda _: "y"),
        )
    )
    assert first.split.train.equals(second.split.train)
    told = [
        [(q.shopper, q.moment, q.anchors.tolist(), q.session, q.words) for q in e.questions]
        for e in (first, second)
    ]
    assert told[0] == told[1]
    assert first.questions[0].wanted.tolist() != second.questions[0].wanted.tolist()


def chance(exam: Exam, depth: int) -> tuple[float, float]:
    """Mean recall at a depth of lists drawn blindly, and the standard error of a shopper's."""
    shares = np.array([depth / allowed(exam, question).sum() for question in exam.questions])
    return float(shares.mean()), float(np.sqrt((shares * (1 - shares)).sum()) / len(shares))


@pytest.mark.parametrize(("sampler", "leaks"), [(leak_free, False), (published, True)])
def test_a_ranker_that_only_remembers_its_negatives_scores_like_chance(
    sampler: NegativeSampler, leaks: bool
) -> None:
    """On these exams too the memory ranker tells honest negatives from those that spare the held-out items."""
    data = random_dataset(7, shoppers=300, items=200, count=6000)
    cut = split(data, SplitKind.LAST)
    exam = next_item_exam(data, cut)
    ranker = by_shopper(memory_ranker(cut, sampler, rounds=20, seed=0))
    found = judge("memory", lists_of(ranker, exam), exam).mean("recall@10")
    mean, error = chance(exam, 10)
    assert (found > mean + 8 * error) if leaks else abs(found - mean) < 4 * error


def test_a_judge_counts_like_a_person_would(shop: Dataset) -> None:
    """Ann's basket of two with one hit in second place; her lists are shorter than the catalogue."""
    exam = home_exam(week_cut(shop))
    index = {item: place for place, item in enumerate(exam.split.items)}
    lists = np.full((3, 20), NOBODY, dtype=np.int64)
    lists[0, :2] = [index["milk"], index["salt"]]
    lists[1, 0] = index["tea"]
    found = judge("by hand", lists, exam)
    assert found.per_shopper["recall@20"].tolist() == [0.5, 1.0, 0.0]
    ideal = 1 + 1 / np.log2(3)
    assert found.per_shopper["ndcg@10"].tolist() == pytest.approx([1 / np.log2(3) / ideal, 1.0, 0.0])


def test_a_shopper_of_many_questions_counts_once() -> None:
    """Eve's two steps are one mean."""
    data = dataset(VISITS)
    exam = detail_exam(data, session_split(data))
    lists = np.full((2, 10), NOBODY, dtype=np.int64)
    lists[0, 0] = exam.questions[0].wanted[0]
    assert judge("half", lists, exam).per_shopper["recall@10"].tolist() == [0.5]


def test_an_answer_with_a_barred_or_repeated_item_is_not_judged(shop: Dataset) -> None:
    """The judge names the ranker and the question."""
    exam = cart_exam(week_cut(shop), seed=0)
    barred = np.full((1, 10), NOBODY, dtype=np.int64)
    barred[0, 0] = exam.questions[0].anchors[0]
    twice = np.full((1, 10), NOBODY, dtype=np.int64)
    twice[0, :2] = exam.questions[0].wanted[0]
    for lists in (barred, twice):
        with pytest.raises(ProtocolError, match="question 0"):
            judge("cheat", lists, exam)


def test_an_exam_cannot_want_what_it_bars(shop: Dataset) -> None:
    """Nor can it ask nothing."""
    exam = home_exam(week_cut(shop))
    own = exam.questions[0].wanted
    bad = Question(shopper=0, wanted=own, moment=1, barred=own)
    for questions in ((bad,), ()):
        with pytest.raises(ProtocolError):
            replace(exam, questions=questions)
