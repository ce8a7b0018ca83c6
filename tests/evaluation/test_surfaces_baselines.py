"""The simple rankers of the surfaces against brute force, and the simulated searches."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from evaluation_world import random_dataset

from evaluation.split import Split, SplitKind, split
from evaluation.surfaces import Question
from evaluation.surfaces_baselines import (
    anchors_of,
    baskets_of,
    bm25,
    content_of_anchors,
    popularity_in_category,
    together,
)
from evaluation.surfaces_sessions import SESSION_GAP, session_groups, with_sessions
from evaluation.surfaces_words import QueryStyle, WordStock, out_of_order, simulated_query
from server.serving.words import words_of


@pytest.fixture(scope="module")
def cut() -> Split:
    """Forty shoppers and thirty items."""
    return split(random_dataset(11, shoppers=40, items=30, count=500), SplitKind.LAST)


def question(*anchors: int, words: str = "") -> Question:
    """A question of shopper 0 with the given anchors."""
    return Question(
        shopper=0, wanted=np.array([0]), moment=0, anchors=np.array(anchors, dtype=np.int64), words=words
    )


def test_co_occurrence_is_the_cosine_of_groups_counted_by_hand(cut: Split) -> None:
    """Two anchors add up; an item is not its own neighbour."""
    groups, items = baskets_of(cut), cut.train["item"].to_numpy()
    holding = [set(groups[items == item].tolist()) for item in range(len(cut.items))]

    def cosine(one: int, other: int) -> float:
        if one == other or not holding[one] or not holding[other]:
            return 0.0
        return len(holding[one] & holding[other]) / math.sqrt(len(holding[one]) * len(holding[other]))

    found = together(groups, items, len(cut.items))([question(3), question(3, 17)])
    by_hand = [[cosine(i, 3) for i in range(30)], [cosine(i, 3) + cosine(i, 17) for i in range(30)]]
    assert np.allclose(found, by_hand, atol=1e-6)


def test_a_basket_is_one_shopper_at_one_moment(cut: Split) -> None:
    """Two events share a number exactly where shopper and timestamp agree."""
    groups = baskets_of(cut)
    keys = list(cut.train.select("shopper", "timestamp").iter_rows())
    assert len(set(zip(groups.tolist(), keys, strict=True))) == len(set(groups.tolist())) == len(set(keys))


def test_sessions_end_after_a_pause_and_are_the_shoppers_own(cut: Split) -> None:
    """Walking through the events one by one finds the same groups."""
    groups, number, last = [], -1, (-1, 0)
    for shopper, time in cut.train.select("shopper", "timestamp").iter_rows():
        number += shopper != last[0] or time - last[1] > SESSION_GAP
        last = (shopper, time)
        groups.append(number)
    assert session_groups(cut).tolist() == groups
    assert with_sessions(cut.train).height == cut.train.height


def test_content_of_anchors_is_the_cosine_to_their_mean_direction() -> None:
    """Unit rows are averaged, so a long description does not outweigh a short one."""
    features = sp.csr_matrix(np.array([[2.0, 0.0], [0.0, 9.0], [1.0, 1.0]], dtype=np.float32))
    found = content_of_anchors(features)([question(0), question(0, 1)])
    half = 1 / math.sqrt(2)
    assert np.allclose(found, [[1.0, 0.0, half], [half, half, 1.0]], atol=1e-6)


def test_popularity_in_category_weighs_the_shoppers_own_categories(cut: Split) -> None:
    """Audience times the category's share of the shopper's items; strangers' categories follow by audience."""
    categories = [None if item % 5 == 4 else f"c{item % 5}" for item in range(len(cut.items))]
    found = popularity_in_category(cut, categories)(np.array([2]))[0]
    audience = np.asarray(cut.positives.sum(axis=0)).ravel()
    mine = cut.positives[2].indices
    share = [sum(categories[j] == categories[i] for j in mine) / mine.size for i in range(len(categories))]
    by_hand = sorted(range(len(categories)), key=lambda i: (-share[i] * audience[i], -audience[i], i))
    assert np.argsort(-found, kind="stable").tolist() == by_hand


def test_bm25_is_okapis_formula() -> None:
    """idf and saturation of every word, k1 = 1.5 and b = .75, summed over the query."""
    texts = ["red cotton shirt", "red red wool coat", "blue cotton trousers long", "a tea pot"]
    found = bm25(texts, lambda text: text.split())([question(words="red cotton")])[0]
    documents = [text.split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)

    def score(document: list[str]) -> float:
        total = 0.0
        for word in ("red", "cotton"):
            holders = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            count = document.count(word)
            total += idf * count / (count + 1.5 * (0.25 + 0.75 * len(document) / mean))
        return total

    assert np.allclose(found, [score(document) for document in documents], atol=1e-5)
    assert bm25(texts, lambda text: text.split())([question(words="umbrella")])[0].tolist() == [0.0] * 4


def test_anchors_of_many_questions_are_rows() -> None:
    """A question without anchors is an empty row."""
    rows = anchors_of([question(1, 2), question(), question(0)], 4).toarray()
    assert rows.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


TITLES = [f"Stainless steel bolt M{number} quick-grip" for number in range(25)] + ["Rare umbrella", "7", None]


def test_simulated_queries_are_words_of_the_title() -> None:
    """Vague: one word of many titles; specific: up to three words; the same item is asked for in the same way."""
    stock = WordStock.of(pl.DataFrame({"title": TITLES}))
    vague = simulated_query(stock, 3, QueryStyle.VAGUE, 0)
    specific = simulated_query(stock, 3, QueryStyle.SPECIFIC, 0)
    assert vague in {"stainless", "steel", "bolt", "quick", "grip"}
    assert len(specific.split()) == 3 and set(specific.split()) <= set(words_of(TITLES[3] or ""))
    assert simulated_query(stock, 3, QueryStyle.SPECIFIC, 0) == specific
    assert simulated_query(stock, 25, QueryStyle.VAGUE, 0) == ""
    assert simulated_query(stock, 25, QueryStyle.SPECIFIC, 0) == "rare umbrella"
    assert [simulated_query(stock, item, QueryStyle.SPECIFIC, 0) for item in (26, 27)] == ["", ""]


@pytest.mark.parametrize(
    ("query", "texts", "wrong"),
    [
        ("red shirt", ["red cotton shirt", "Shirt, RED", "red coat"], 0),
        ("red shirt", ["red coat", "red cotton shirt", "shirt red"], 2),
        ("红色短袖", ["红色短袖 大号", "红色纯棉短袖"], 0),
        ("红色 短袖", ["纯棉短袖", "红色纯棉短袖"], 1),
        ("袖", ["短裤", "红色短袖"], 1),
        ("umbrella", ["red coat", "blue coat"], 0),
    ],
)
def test_an_answer_out_of_order_is_seen_in_both_languages(query: str, texts: list[str], wrong: int) -> None:
    """What holds all words must not stand below what holds fewer."""
    assert out_of_order(query, texts) == wrong
