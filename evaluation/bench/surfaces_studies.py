"""What the surfaces bench asks on which data: exams, the simple rankers beside them, and the recipe of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from evaluation.baselines import popularity
from evaluation.bench.recipes import BASKET, BY_CONTENT, Recipe
from evaluation.cold_items import FOLDS, cold_cut
from evaluation.cold_models import category_popularity
from evaluation.linear import content_only
from evaluation.neighbours import item_neighbours
from evaluation.protocol import Result
from evaluation.settings import Surfaces
from evaluation.split import Csr, Split, SplitKind, split
from evaluation.surfaces import Exam, QuestionScorer, judge, lists_of
from evaluation.surfaces_baselines import (
    baskets_of,
    bm25,
    by_shopper,
    content_of_anchors,
    popularity_in_category,
    together,
)
from evaluation.surfaces_cuts import cart_exam, home_exam, promotion_exam, week_cut
from evaluation.surfaces_sessions import (
    beside_exam,
    detail_exam,
    new_arrivals_exam,
    next_item_exam,
    search_exam,
    session_groups,
    session_split,
)
from evaluation.surfaces_words import QueryStyle
from model.catalogue import item_columns
from model.encoders import EncoderName, encoder_named
from model.errors import EncoderError
from model.head import Basis
from server.serving.words import words_of
from simulation.data import Dataset

NOVELTIES = "amazon18-industrial, new arrivals"
DRAWN = 5
"""Seed of everything that an exam draws: which item leaves a basket, which words a simulated shopper types."""
POPULARITY, IN_CATEGORY = "popularity", "popularity in category"
NEIGHBOURS, TOGETHER = "item neighbours (not private)", "basket co-occurrence (not private)"
CONTENT, BM25 = "content only (spends nothing)", "BM25 (spends nothing)"
IN_SESSIONS = "item neighbours by session (not private)"


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the model of a study is trained, beyond its recipe.

    Attributes:
        surfaces: what is learned for the surfaces, as far as the data support it.
        encoder: of the catalogue's texts, for the model and for rankers by content alike.
    """

    recipe: Recipe
    surfaces: Surfaces = Surfaces.ALL
    encoder: EncoderName = EncoderName.HASHED

    def words(self) -> str:
        """Return it as options of `fedrank simulate`."""
        return f"{self.recipe.words(self.surfaces)} --encoder {self.encoder}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Paper:
    """One exam with what simple rankers answered."""

    exam: Exam
    baselines: Mapping[str, Result]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Exams that one model answers: all of them have the same split, and so the same train events."""

    dataset: Dataset
    split: Split
    papers: tuple[Paper, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One data set's part of the bench.

    Attributes:
        data: its folder; None for the embedded set.
        studies: makes the studies of it, with at most so many questions to an exam; several studies are folds, whose
            results are pooled.
        metrics: shown and compared, the first one first.
    """

    name: str
    data: str | None
    learning: Learning
    studies: Callable[[Dataset, int], Sequence[Study]]
    metrics: tuple[str, ...] = ("ndcg@10", "recall@20")


def grocery(dataset: Dataset, most: int) -> list[Study]:
    """Return home, cart and promotion behind the last week of a set with baskets and promotions."""
    cut = week_cut(dataset)
    known, content = cut.split, features_of(dataset)
    people = {
        POPULARITY: by_shopper(popularity(known, 0)),
        IN_CATEGORY: by_shopper(popularity_in_category(known, dataset.items["category"].to_list())),
        NEIGHBOURS: by_shopper(item_neighbours(known, 0)),
        CONTENT: by_shopper(content_only(known, content, 0)),
    }
    items = known.train["item"].to_numpy()
    baskets = {
        POPULARITY: people[POPULARITY],
        TOGETHER: together(baskets_of(known), items, len(known.items)),
        CONTENT: content_of_anchors(content),
    }
    papers = (
        paper(home_exam(cut), people, most),
        paper(cart_exam(cut, DRAWN), baskets, most),
        paper(promotion_exam(cut), people, most),
    )
    return [Study(dataset=dataset, split=known, papers=papers)]


def gift_shop(dataset: Dataset, most: int) -> list[Study]:
    """Return home for the last new item of each shopper."""
    cut = split(dataset, SplitKind.LAST)
    people = {
        POPULARITY: by_shopper(popularity(cut, 0)),
        NEIGHBOURS: by_shopper(item_neighbours(cut, 0)),
        CONTENT: by_shopper(content_only(cut, features_of(dataset), 0)),
    }
    return [Study(dataset=dataset, split=cut, papers=(paper(next_item_exam(dataset, cut), people, most),))]


def searches(dataset: Dataset, most: int) -> list[Study]:
    """Return search for the last new item by vague and by specific words, and detail of the item before it."""
    cut = split(dataset, SplitKind.LAST)
    words = {BM25: bm25(texts_of(dataset.items), words_of), POPULARITY: by_shopper(popularity(cut, 0))}
    searched = tuple(paper(search_exam(dataset, cut, style, DRAWN), words, most) for style in QueryStyle)
    items, people = cut.train["item"].to_numpy(), cut.train["shopper"].to_numpy().astype("int64")
    beside = {
        POPULARITY: words[POPULARITY],
        NEIGHBOURS: together(people, items, len(cut.items)),
        CONTENT: content_of_anchors(features_of(dataset, best_reader())),
    }
    papers = (*searched, paper(beside_exam(dataset, cut), beside, most))
    return [Study(dataset=dataset, split=cut, papers=papers)]


def sessions(dataset: Dataset, most: int) -> list[Study]:
    """Return detail for the next item of held-out sessions."""
    cut = session_split(dataset)
    items = cut.train["item"].to_numpy()
    people = cut.train["shopper"].to_numpy().astype("int64")
    rankers = {
        POPULARITY: by_shopper(popularity(cut, 0)),
        NEIGHBOURS: together(people, items, len(cut.items)),
        IN_SESSIONS: together(session_groups(cut), items, len(cut.items)),
    }
    return [Study(dataset=dataset, split=cut, papers=(paper(detail_exam(dataset, cut), rankers, most),))]


def novelties(dataset: Dataset, most: int) -> list[Study]:
    """Return new_arrivals for each fold of the catalogue that is absent from train."""
    content, columns = features_of(dataset, best_reader()), item_columns(dataset.items)
    kinds = [category or brand for category, brand in zip(columns.categories, columns.brands, strict=True)]
    found = []
    for cut in (cold_cut(dataset, fold) for fold in range(FOLDS)):
        rankers = {
            POPULARITY: by_shopper(popularity(cut.split, 0)),
            IN_CATEGORY: by_shopper(category_popularity(cut, kinds)),
            CONTENT: by_shopper(content_only(cut.split, content, 0)),
        }
        papers = (paper(new_arrivals_exam(dataset, cut), rankers, most),)
        found.append(Study(dataset=dataset, split=cut.split, papers=papers))
    return found


def paper(exam: Exam, rankers: Mapping[str, QuestionScorer], most: int) -> Paper:
    """Return the first questions of an exam with the answers of simple rankers, judged."""
    exam = replace(exam, questions=exam.questions[:most])
    results = {name: judge(name, lists_of(ranker, exam), exam) for name, ranker in rankers.items()}
    return Paper(exam=exam, baselines=results)


def features_of(dataset: Dataset, encoder: EncoderName = EncoderName.HASHED) -> Csr:
    """Return the public features of the catalogue."""
    return encoder_named(encoder).encode(item_columns(dataset.items))


def best_reader() -> EncoderName:
    """Return the multilingual encoder where it is installed, which reads texts better; else the one of words."""
    try:
        return EncoderName(encoder_named(EncoderName.MULTILINGUAL).name)
    except EncoderError:
        return EncoderName.HASHED


def texts_of(items: pl.DataFrame) -> list[str]:
    """Return what a search looks through: title, brand and category of each item."""
    columns = [pl.col(name).fill_null("") for name in ("title", "brand", "category")]
    return items.select(pl.concat_str(columns, separator=" ")).to_series().to_list()


TEXTS = Learning(recipe=Recipe(basis=Basis.CONTENT, recency=0.5, prior=0.0), encoder=best_reader())
"""Chosen on validation cuts of amazon18-industrial, for search, detail and new arrivals together."""

PLANS: tuple[Plan, ...] = (
    Plan(name="completejourney", data=None, learning=Learning(recipe=BASKET), studies=grocery),
    Plan(name="online-retail", data="online-retail", learning=Learning(recipe=BY_CONTENT), studies=gift_shop),
    Plan(
        name="amazon18-industrial, search and detail",
        data="amazon18-industrial",
        learning=TEXTS,
        studies=searches,
    ),
    Plan(
        name="retailrocket-mb", data="retailrocket-mb", learning=Learning(recipe=Recipe()), studies=sessions
    ),
    Plan(
        name=NOVELTIES,
        data="amazon18-industrial",
        learning=TEXTS,
        studies=novelties,
        metrics=("recall@50", "ndcg@10"),
    ),
)
