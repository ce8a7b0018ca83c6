"""Which items hold which words: an inverted index over catalogue texts, English, Chinese or mixed."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.serving.items_lookup import Lookup, keyed_columns
from server.serving.items_strings import Columns, starts_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

MAX_QUERY_WORDS = 32
"""Words of a query beyond this many are not looked up; it bounds the work of one call."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_STARTS_CJK = re.compile(rf"[{_CJK}]")


def words_of(text: str) -> list[str]:
    """Words of a query, in order, without repetition.

    Case and width are folded (NFKC). Scripts written without spaces give overlapping pairs of characters,
    and a single character where it stands alone.
    """
    return list(dict.fromkeys(word for run in _runs(text) for word in _pairs(run)))


def _runs(text: str) -> list[str]:
    return _RUN.findall(unicodedata.normalize("NFKC", text).casefold())


def _pairs(run: str) -> list[str]:
    if len(run) == 1 or not _STARTS_CJK.match(run):
        return [run]
    return [run[start : start + 2] for start in range(len(run) - 1)]


def _indexed(text: str) -> set[str]:
    """Words of an item: as of a query, and each single character of scripts without spaces."""
    runs = _runs(text)
    singles = {character for run in runs if _STARTS_CJK.match(run) for character in run}
    return singles.union(word for run in runs for word in _pairs(run))


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Items that hold at least one word of a query."""

    words: tuple[str, ...]
    """The words looked up."""
    items: Ints
    """(matches,) item indices, ascending."""
    holds: npt.NDArray[np.bool_]
    """(matches, words) which item holds which word."""
    coverage: Floats
    """(matches,) share of the query's weight that the item holds, in (0, 1]; rare words weigh more."""

    def held(self, item: int) -> list[str]:
        """The words of the query that `item` holds; none for an item that is no match."""
        row = int(np.searchsorted(self.items, item))
        if row == len(self.items) or self.items[row] != item:
            return []
        return [word for word, holds in zip(self.words, self.holds[row], strict=True) if holds]


class WordIndex:
    """An immutable inverted index: word -> indices of the items that hold it, in arrays that can be mapped."""

    def __init__(self, columns: Columns, added: Columns | None = None) -> None:
        """Use the columns of `word_columns`; `added` are those of further items, which follow the first."""
        self._parts = [_Postings(columns, 0)]
        if added is not None:
            self._parts.append(_Postings(added, self._parts[0].items))
        self._items = sum(part.items for part in self._parts)

    @classmethod
    def over(cls, texts: Iterable[str]) -> WordIndex:
        """Index one text per item, in item order."""
        return cls(word_columns(texts))

    def match(self, query: str) -> Matches:
        """Items that hold any word of `query`; none for a query without words.

        A word's weight is ln(1 + items / items holding it), the usual inverse document frequency; a word that
        no item holds weighs as if half an item held it.
        """
        words = words_of(query)[:MAX_QUERY_WORDS]
        found = [self._holders(word) for word in words]
        items: Ints = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
        holds = np.zeros((items.size, len(words)), dtype=np.bool_)
        for column, holders in enumerate(found):
            holds[np.searchsorted(items, holders), column] = True
        weights = self._weights(found)
        coverage = (holds @ weights / max(float(weights.sum()), 1e-9)).astype(np.float32)
        return Matches(words=tuple(words), items=items, holds=holds, coverage=coverage)

    def _holders(self, word: str) -> Ints:
        return np.concatenate([part.holders(word) for part in self._parts])

    def _weights(self, found: Sequence[Ints]) -> npt.NDArray[np.float64]:
        holders = np.array([max(items.size, 0.5) for items in found], dtype=np.float64)
        return np.log1p(self._items / holders)


class _Postings:
    """Word w is held by the items `postings_items[postings_starts[w]:postings_starts[w + 1]]`, ascending."""

    def __init__(self, columns: Columns, first: int) -> None:
        """Use the columns of `word_columns`; `first` is the index of their first item."""
        self.items = int(columns["postings_of"][0])
        self._first = first
        self._lookup = Lookup(columns, "words")
        self._starts = columns["postings_starts"]
        self._holders = columns["postings_items"]

    def holders(self, word: str) -> Ints:
        """Ascending indices of the items that hold a word."""
        number = self._lookup.row(word)
        if number < 0:
            return np.empty(0, dtype=np.int64)
        return self._holders[self._starts[number] : self._starts[number + 1]].astype(np.int64) + self._first


def word_columns(texts: Iterable[str]) -> Columns:
    """The arrays of a `WordIndex` over one text per item, in item order."""
    numbers: dict[str, int] = {}
    held, lengths = array("i"), array("i")
    for text in texts:
        words = sorted(_indexed(text))
        held.extend(numbers.setdefault(word, len(numbers)) for word in words)
        lengths.append(len(words))
    words_held = np.frombuffer(held, dtype=np.int32)
    items = np.repeat(np.arange(len(lengths), dtype=np.int32), np.frombuffer(lengths, dtype=np.int32))
    keys, order = keyed_columns("words", list(numbers))
    row_of = np.argsort(order)
    rows_held = row_of[words_held]
    return {
        **keys,
        "postings_of": np.array([len(lengths)], dtype=np.int64),
        "postings_starts": starts_of(np.bincount(rows_held, minlength=len(numbers))),
        "postings_items": items[np.argsort(rows_held, kind="stable")],
    }
