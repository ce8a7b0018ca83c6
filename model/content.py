"""Public item features: category, brand, price band and hashed text n-grams, as one sparse matrix.

Text is cut into words and, for scripts without spaces such as Chinese, into character bigrams; both are
hashed (BLAKE2, the same on every machine) into a fixed number of columns (Weinberger et al. 2009).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

TEXT_COLUMNS = 1024
CATEGORY_COLUMNS = 256
BRAND_COLUMNS = 256
PRICE_COLUMNS = 16
CONTENT_FEATURES = TEXT_COLUMNS + CATEGORY_COLUMNS + BRAND_COLUMNS + PRICE_COLUMNS
DESCRIPTION_CHARACTERS = 400

CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")
WORD = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True, kw_only=True)
class ItemColumns:
    """The public catalogue as parallel columns, one entry per item; None where a fact is unknown."""

    titles: Sequence[str | None]
    categories: Sequence[str | None]
    brands: Sequence[str | None]
    prices: Sequence[float | None]
    descriptions: Sequence[str | None]


@lru_cache(maxsize=200_000)
def hashed(text: str, columns: int) -> int:
    """Return a stable column for a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % columns


def tokens(text: str) -> Iterator[str]:
    """Yield lower-case words, word pairs, and character bigrams of Chinese runs."""
    lowered = text.lower()
    for run in CHINESE.findall(lowered):
        yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
    words = WORD.findall(CHINESE.sub(" ", lowered))
    yield from words
    yield from (f"{a} {b}" for a, b in pairwise(words))


def item_features(columns: ItemColumns) -> sp.csr_matrix:
    """Return the features (items, CONTENT_FEATURES) float32, each block of a row scaled to unit length."""
    count = len(columns.titles)
    texts = [
        " ".join(part for part in (title, (text or "")[:DESCRIPTION_CHARACTERS]) if part)
        for title, text in zip(columns.titles, columns.descriptions, strict=True)
    ]
    blocks = [
        _rows([[hashed(t, TEXT_COLUMNS) for t in tokens(text)] for text in texts], TEXT_COLUMNS),
        _rows([_parts(value, CATEGORY_COLUMNS) for value in columns.categories], CATEGORY_COLUMNS),
        _rows([_whole(value, BRAND_COLUMNS) for value in columns.brands], BRAND_COLUMNS),
        _rows(_price_bands(columns.prices), PRICE_COLUMNS),
    ]
    return sp.csr_matrix(sp.hstack(blocks, format="csr", dtype=np.float32), shape=(count, CONTENT_FEATURES))


def _parts(value: str | None, columns: int) -> list[int]:
    """Return columns of a category path and of each prefix of it, so that siblings share a feature."""
    if not value:
        return []
    parts = [part.strip() for part in re.split(r"[|>/;]", value) if part.strip()]
    return [hashed(" > ".join(parts[: i + 1]).lower(), columns) for i in range(len(parts))]


def _whole(value: str | None, columns: int) -> list[int]:
    return [hashed(value.strip().lower(), columns)] if value and value.strip() else []


def _price_bands(prices: Sequence[float | None]) -> list[list[int]]:
    """Return one band per price: half powers of two of the price, which needs no statistic of the data."""
    return [
        [int(np.clip(np.floor(2 * np.log2(price)) + 4, 0, PRICE_COLUMNS - 1))] if price and price > 0 else []
        for price in prices
    ]


def _rows(columns_of: list[list[int]], columns: int) -> sp.csr_matrix:
    """Return rows of counts, tempered by rarity among items (public) and scaled to unit length."""
    lengths = [len(row) for row in columns_of]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.fromiter((c for row in columns_of for c in row), dtype=np.int64, count=int(indptr[-1]))
    matrix = sp.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), (len(columns_of), columns))
    matrix.sum_duplicates()
    frequency: NDArray[np.int64] = np.bincount(matrix.indices, minlength=columns)
    rarity = np.log1p(len(columns_of) / np.maximum(frequency, 1)).astype(np.float32)
    weighted = matrix @ sp.diags(rarity)
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1.0 / np.maximum(norms, 1e-12)) @ weighted, dtype=np.float32)
