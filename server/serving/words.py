"""Which items hold which words: an inverted index over catalogue texts, English, Chinese or mixed."""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.serving.items_lookup import Lookup, keyed_columns
from server.serving.items_strings import Columns, starts_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Postings = npt.NDArray[np.int32]

MAX_QUERY_WORDS = 32
"""Words of a query beyond this many are not looked up; it bounds the work of one call."""
MAX_READ = 1_000_000
"""Items that may be read for all words of a query together, an item for each word that it holds."""
MILLION = 1_000_000
_NOTHING = np.empty(0, dtype=np.int64)
_DENSE = 64
"""Looking through all items costs less than sorting what was read, where that is more than this part of them."""

_FUNCTION_WORDS = {"and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with", "without"}
"""English ones; a letter alone, as in "vitamin a", is none."""
_FUNCTION_WEIGHT = 0.02

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
    """The words looked up, in the order of the query."""
    items: Ints
    """(matches,) item indices, ascending."""
    shares: npt.NDArray[np.int32]
    """(matches,) which share of the query's weight the item holds, in millionths, at least 1; rare words weigh more.

    An item that holds all that another holds, and more, has a larger share by more than a thousand millionths.
    """
    holders: Sequence[Holders]
    """Of each word."""

    @property
    def coverage(self) -> Floats:
        """(matches,) the shares as fractions of 1."""
        return (self.shares / MILLION).astype(np.float32)

    def held(self, item: int) -> list[str]:
        """The words of the query that `item` holds; none for an item that is no match."""
        return [word for word, holders in zip(self.words, self.holders, strict=True) if item in holders]


@dataclass(frozen=True, slots=True)
class Holders:
    """The items that hold one word: ascending indices, in parts that each count from a first item."""

    parts: Sequence[tuple[int, Postings]]

    def __len__(self) -> int:
        """Number of items."""
        return sum(len(items) for _, items in self.parts)

    def items(self) -> Ints:
        """Their indices (n,), ascending."""
        return np.concatenate([items.astype(np.int64) + first for first, items in self.parts])

    def __contains__(self, item: int) -> bool:
        """Whether the item holds the word."""
        for first, items in self.parts:
            place = bisect_left(items, item - first)
            if place < len(items) and items[place] == item - first:
                return True
        return False


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
        no item holds weighs as if half an item held it. Function words, rare as they may be in titles, weigh a
        fiftieth: "for" is not what somebody looks for. The rarest words are looked up first, and those are left out
        that would bring the items read above `MAX_READ`: they tell the least. The rarest is never left out.
        """
        found = {word: self._holders(word) for word in words_of(query)[:MAX_QUERY_WORDS]}
        rarest_first = sorted(found, key=lambda word: len(found[word]))
        read = set(rarest_first[: max(1, _fitting([len(found[word]) for word in rarest_first]))])
        words = tuple(word for word in found if word in read)
        holders = [found[word] for word in words]
        items, shares = self._summed(holders, self._weights(words, holders))
        return Matches(words=words, items=items, shares=shares, holders=holders)

    def _holders(self, word: str) -> Holders:
        return Holders([(part.first, part.holders(word)) for part in self._parts])

    def _weights(self, words: Sequence[str], holders: Sequence[Holders]) -> npt.NDArray[np.int32]:
        """Of each word, in millionths of all."""
        counts = np.array([max(len(items), 0.5) for items in holders], dtype=np.float64)
        weights = np.log1p(self._items / counts)
        weights *= [_FUNCTION_WEIGHT if word in _FUNCTION_WORDS else 1.0 for word in words]
        return np.rint(weights / max(float(weights.sum()), 1e-9) * MILLION).astype(np.int32)

    def _summed(
        self, holders: Sequence[Holders], weights: npt.NDArray[np.int32]
    ) -> tuple[Ints, npt.NDArray[np.int32]]:
        """The items that hold a word, ascending, and the sum of the weights of those that each holds."""
        sums = np.zeros(self._items, dtype=np.int32)
        for held, weight in zip(holders, weights, strict=True):
            for first, items in held.parts:
                sums[first:][items] += weight
        if sum(map(len, holders)) > self._items // _DENSE:
            matching = np.flatnonzero(sums)
        else:
            matching = np.unique(np.concatenate([_NOTHING, *(held.items() for held in holders)]))
        return matching, sums[matching]


def _fitting(counts: Sequence[int]) -> int:
    """How many of the first words may be read so that `MAX_READ` is kept."""
    return int(np.searchsorted(np.cumsum(counts), MAX_READ, side="right"))


class _Postings:
    """Word w is held by the items `postings_items[postings_starts[w]:postings_starts[w + 1]]`, ascending."""

    def __init__(self, columns: Columns, first: int) -> None:
        """Use the columns of `word_columns`; `first` is the index of their first item."""
        self.items = int(columns["postings_of"][0])
        self.first = first
        self._lookup = Lookup(columns, "words")
        self._starts = columns["postings_starts"]
        self._holders = columns["postings_items"]

    def holders(self, word: str) -> Postings:
        """Ascending indices of the items that hold a word, counted from the first item."""
        number = self._lookup.row(word)
        if number < 0:
            return self._holders[:0]
        return self._holders[self._starts[number] : self._starts[number + 1]]


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
