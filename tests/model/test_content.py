"""Content features: the same on every machine, for English and Chinese, with facts missing or not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.content import (
    BRAND_COLUMNS,
    CATEGORY_COLUMNS,
    CONTENT_FEATURES,
    DESCRIPTION_CHARACTERS,
    PRICE_COLUMNS,
    TEXT_COLUMNS,
    ItemColumns,
    hashed,
    item_features,
    tokens,
)

BLOCKS = np.cumsum([TEXT_COLUMNS, CATEGORY_COLUMNS, BRAND_COLUMNS, PRICE_COLUMNS])
TEXT, CATEGORY, BRAND, PRICE = (
    slice(int(end) - width, int(end))
    for end, width in zip(BLOCKS, (TEXT_COLUMNS, CATEGORY_COLUMNS, BRAND_COLUMNS, PRICE_COLUMNS), strict=True)
)

Texts = Sequence[str | None]


def features(
    *,
    titles: Texts | None = None,
    categories: Texts | None = None,
    brands: Texts | None = None,
    prices: Sequence[float | None] | None = None,
    descriptions: Texts | None = None,
) -> NDArray[np.float32]:
    """Dense features of a catalogue of which only some columns are known."""
    given = (titles, categories, brands, prices, descriptions)
    count = max(len(column) for column in given if column is not None)
    nothing: list[None] = [None] * count
    made = item_features(
        ItemColumns(
            titles=titles or nothing,
            categories=categories or nothing,
            brands=brands or nothing,
            prices=prices or nothing,
            descriptions=descriptions or nothing,
        )
    )
    return np.asarray(made.toarray(), dtype=np.float32)


PROGRAM = """
import hashlib
from model.content import ItemColumns, hashed, item_features
made = item_features(ItemColumns(
    titles=["Blue mug", "绿茶 premium", None], categories=["Kitchen|Mugs", None, "Tea"], brands=["Acme", None, "茶"],
    prices=[3.5, None, 12.0], descriptions=[None, "龙井 from Hangzhou", ""]))
made.sort_indices()
print(hashlib.sha256(made.indices.tobytes() + made.indptr.tobytes() + made.data.tobytes()).hexdigest())
print([hashed(text, 1024) for text in ("mug", "绿茶", "")])
"""


def test_another_process_with_another_hash_seed_computes_the_same_features() -> None:
    """Python's own hash changes with every process; coordinator, devices and ranking must agree."""
    answers = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=Path(__file__).resolve().parents[2],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    assert str([hashed(text, 1024) for text in ("mug", "绿茶", "")]) in answers.pop()


def test_a_hash_is_eight_bytes_of_blake2b() -> None:
    """Golden: what `printf mug | b2sum -l 64` prints, read in little endian, modulo the columns."""
    printed = int.from_bytes(bytes.fromhex("dbcfc51625a33801"), "little")
    assert hashed("mug", 2**64) == printed
    assert hashed("mug", 1024) == printed % 1024 == 987


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Blue  MUG!", ["blue", "mug", "blue mug"]),
        ("12-inch snake_case", ["12", "inch", "snake", "case", "12 inch", "inch snake", "snake case"]),
        ("茶", ["茶"]),
        ("龙井绿茶", ["龙井", "井绿", "绿茶"]),
        ("绿茶 tea 250g 龙井", ["绿茶", "龙井", "tea", "250g", "tea 250g"]),
        ("iPhone手机壳case", ["手机", "机壳", "iphone", "case", "iphone case"]),
        ("Crème brûlée", ["crème", "brûlée", "crème brûlée"]),
        ("☃ ---", []),
    ],
)
def test_english_gives_words_and_pairs_and_chinese_gives_bigrams(text: str, expected: list[str]) -> None:
    """Scripts without spaces have no words to cut at, so neighbouring characters stand for them."""
    assert list(tokens(text)) == expected


@given(st.text())
def test_any_text_has_tokens_of_its_own_characters(text: str) -> None:
    """No text breaks the tokeniser; tokens are lower-case and never empty or blank."""
    for token in tokens(text):
        assert token.strip() and all(part in text.lower() for part in token.split(" "))


def test_unknown_facts_leave_their_block_empty() -> None:
    """No title, category, brand or price is no feature, not a feature called None."""
    made = features(titles=[None, "mug"], prices=[None, 5.0])
    assert made.shape == (2, CONTENT_FEATURES) and made.dtype == np.float32
    assert not made[0].any()
    assert made[1, TEXT].any() and made[1, PRICE].any()
    assert not made[1, CATEGORY].any() and not made[1, BRAND].any()
    for blank in ("", "   "):
        assert not features(titles=[blank], categories=[blank], brands=[blank], descriptions=[blank]).any()


@pytest.mark.parametrize("price", [None, 0.0, -3.0, float("nan")])
def test_a_price_that_is_none_has_no_band(price: float | None) -> None:
    """Missing, free, negative and NaN prices say nothing."""
    assert not features(prices=[price]).any()


def test_price_bands_are_half_powers_of_two() -> None:
    """From 1/4 upwards a new band begins with every factor sqrt 2; the first and the last are open."""
    prices = [1e-9, 0.25, 0.3, 0.36, 1.0, 1.4, 1.42, 2.0, 1e9, float("inf")]
    bands = features(prices=prices)[:, PRICE].argmax(axis=1)
    assert bands.tolist() == [0, 0, 0, 1, 4, 4, 5, 6, 15, 15]


def test_every_block_that_says_anything_has_unit_length() -> None:
    """A long description weighs no more than a short title, and a row of all facts has length 2."""
    made = features(
        titles=["mug", "a much longer title with many words"],
        categories=["Kitchen|Mugs|Large", "Kitchen"],
        brands=["Acme", "Zenith"],
        prices=[3.0, 9.0],
    )
    for part in (TEXT, CATEGORY, BRAND, PRICE):
        np.testing.assert_allclose(np.linalg.norm(made[:, part], axis=1), 1.0, rtol=1e-6)


def test_siblings_in_a_category_tree_share_the_prefix() -> None:
    """Items of one department are alike, items of one leaf more so, whatever the separator."""
    paths = ["Food|Tea|Green", "food > tea > green", "Food/Tea/Black", "Food;Coffee", "Toys|Green"]
    made = features(categories=paths)[:, CATEGORY]
    alike = made @ made.T
    assert alike[0, 1] == pytest.approx(1.0)
    assert 1.0 > alike[0, 2] > alike[0, 3] > 0.0
    assert alike[0, 4] == 0.0, "a leaf is its path, not its last word"


def test_brands_differ_by_nothing_but_case_and_blanks() -> None:
    """A brand is one feature as a whole."""
    made = features(brands=["Acme Tools", " acme tools ", "Acme"])[:, BRAND]
    assert made[0] @ made[1] == pytest.approx(1.0)
    assert made[0] @ made[2] == 0.0


def test_rare_words_weigh_more_than_common_ones() -> None:
    """Two items that share a rare word are nearer than two that share what everyone has."""
    titles = ["mug common", "pot common", *(f"thing{number} common" for number in range(20)), "mug dish"]
    made = features(titles=titles)[:, TEXT]
    assert made[0] @ made[-1] > 1.5 * (made[0] @ made[1]) > 0


def test_a_description_is_read_up_to_its_limit_and_joins_the_title() -> None:
    """What lies beyond the limit changes nothing; what lies within it does."""
    short = "x" * (DESCRIPTION_CHARACTERS - 4)
    made = features(titles=["mug"] * 3, descriptions=[short + " tea", short + " tea lost", short + " pot"])
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_columns_of_different_lengths_are_refused() -> None:
    """A title without its description would shift every later item."""
    with pytest.raises(ValueError, match=r"shorter|longer"):
        item_features(ItemColumns(titles=["a", "b"], categories=[], brands=[], prices=[], descriptions=["a"]))


def test_the_matrix_is_sparse_and_has_no_repeated_entries() -> None:
    """A word that occurs twice is one entry of twice the count."""
    made = item_features(
        ItemColumns(
            titles=["tea tea tea"], categories=[None], brands=[None], prices=[None], descriptions=[None]
        )
    )
    assert isinstance(made, sp.csr_matrix)
    assert made.nnz == len({hashed("tea", TEXT_COLUMNS), hashed("tea tea", TEXT_COLUMNS)})
    tea, pair = made[0, hashed("tea", TEXT_COLUMNS)], made[0, hashed("tea tea", TEXT_COLUMNS)]
    assert tea / pair == pytest.approx(3 / 2)
