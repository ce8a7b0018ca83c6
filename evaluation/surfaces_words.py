"""Simulated searches: words of a wanted item's title; and whether answers keep the order of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from server.serving.words import words_of

VAGUE_HOLDERS = 20
"""A vague word stands in the titles of so many items at least."""
SPECIFIC_WORDS = 3
_SHORTEST = 3


class QueryStyle(StrEnum):
    """How exactly a simulated shopper says what is wanted."""

    VAGUE = "vague"  # one word that many titles hold
    SPECIFIC = "specific"  # three words of the title


@dataclass(frozen=True, kw_only=True)
class WordStock:
    """The words of each item's title that a person would type, and how many titles hold each word."""

    titles: tuple[tuple[str, ...], ...]
    holders: Counter[str]

    @classmethod
    def of(cls, items: pl.DataFrame) -> WordStock:
        """Read titles; numbers and words of one or two letters are left out."""
        titles = tuple(tuple(filter(_spoken, words_of(title or ""))) for title in items["title"])
        return cls(titles=titles, holders=Counter(word for title in titles for word in title))


def _spoken(word: str) -> bool:
    return word.isalpha() and (len(word) >= _SHORTEST or not word.isascii())


def simulated_query(stock: WordStock, item: int, style: QueryStyle, seed: int) -> str:
    """Return words of an item's title, the same for all who want it; empty where it has none of the style."""
    words: Sequence[str] = stock.titles[item]
    count = SPECIFIC_WORDS
    if style is QueryStyle.VAGUE:
        words, count = [word for word in words if stock.holders[word] >= VAGUE_HOLDERS], 1
    if not words:
        return ""
    random = np.random.default_rng((seed, item))
    chosen = random.choice(len(words), min(count, len(words)), replace=False)
    return " ".join(words[place] for place in sorted(chosen.tolist()))


def out_of_order(query: str, texts: Sequence[str]) -> int:
    """Return how many of the listed texts hold all words of the query and stand below one that does not.

    `texts` are those of a list, best first; they are read again, without the index that made it.
    """
    words = words_of(query)
    full = np.array([all(_holds(text, word) for word in words) for text in texts], dtype=np.bool_)
    missing_above = np.cumsum(~full) > 0
    return int((full & missing_above).sum())


def _holds(text: str, word: str) -> bool:
    """Single characters of scripts without spaces count wherever they stand, as the endpoint promises."""
    alone = len(word) == 1 and not word.isascii()
    return word in words_of(text) or (alone and word in text)
