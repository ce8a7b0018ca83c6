"""Search finds items by their words, in English and Chinese, and rare words weigh more."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.serving.words import MAX_QUERY_WORDS, WordIndex, word_columns, words_of

TEXTS = ["Dark Coffee beans", "green tea", "绿茶 tea bags", "红茶", "coffee and tea", "茶", "ＧＲＥＥＮ mug"]


@pytest.fixture(scope="module")
def index() -> WordIndex:
    """Seven short titles."""
    return WordIndex.over(TEXTS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("coffee", [0, 4]),
        ("COFFEE!", [0, 4]),
        ("green", [1, 6]),
        ("绿茶", [2]),
        ("茶", [2, 3, 5]),
        ("tea", [1, 2, 4]),
        ("te", []),
        ("nothing here", []),
        ("?!…", []),
        ("", []),
    ],
)
def test_an_item_is_found_by_its_whole_words_and_chinese_by_pairs(
    index: WordIndex, query: str, found: list[int]
) -> None:
    """Case, width and punctuation do not matter; part of an English word does not match."""
    assert index.match(query).items.tolist() == found


def test_an_item_with_every_word_covers_the_query_and_a_rare_word_counts_more(index: WordIndex) -> None:
    """`dark` is in one title and `tea` in three: holding only `dark` covers more than holding only `tea`."""
    matches = index.match("dark tea")
    covered = dict(zip(matches.items.tolist(), matches.coverage.tolist(), strict=True))
    assert covered[0] > covered[1] > 0
    assert covered[0] + covered[1] == pytest.approx(1.0)
    assert index.match("green tea").coverage.max() == pytest.approx(1.0)


def test_a_function_word_weighs_little_however_rare_it_is() -> None:
    """Of "milk for kids" the milk is found before what only says "for"; alone it is looked up all the same."""
    titles = ["better for you", "milk 1 gal", "kids milk", *["kids cereal"] * 20, *["soup"] * 20]
    found = WordIndex.over(titles).match("milk for kids")
    assert found.items[np.argsort(-found.shares, kind="stable")][:2].tolist() == [2, 1]
    assert found.items[-1] != 0 and int(found.items[found.shares.argmin()]) == 0
    assert WordIndex.over(titles).match("for").items.tolist() == [0]


def test_the_words_an_item_holds_are_named_in_the_order_of_the_query(index: WordIndex) -> None:
    """The reason of a search result comes from here."""
    matches = index.match("tea dark coffee")
    assert matches.held(4) == ["tea", "coffee"]
    assert matches.held(0) == ["dark", "coffee"]


def test_a_long_query_is_cut_to_its_first_words(index: WordIndex) -> None:
    """Work per call is bounded whatever is sent."""
    query = " ".join(f"word{number}" for number in range(MAX_QUERY_WORDS)) + " tea"
    assert index.match(query).items.size == 0
    assert len(index.match(query).words) == MAX_QUERY_WORDS


def test_the_most_common_words_are_left_out_where_all_would_be_too_much_to_read(
    index: WordIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rarest first, and the rarest always; an item holding more of what was looked up has the larger share."""
    for most, words in (
        (6, ("tea", "dark", "coffee")),
        (5, ("dark", "coffee")),
        (1, ("dark",)),
        (0, ("dark",)),
    ):
        monkeypatch.setattr("server.serving.words.MAX_READ", most)
        matches = index.match("tea dark coffee")
        assert matches.words == words
        assert matches.coverage.max() == pytest.approx(1.0 if "tea" not in words else matches.coverage[0])
    monkeypatch.setattr("server.serving.words.MAX_READ", 0)
    assert index.match("tea").items.tolist() == [1, 2, 4]


def test_equal_weights_make_equal_shares_in_whatever_order_they_are_added() -> None:
    """Three words of an item and three of another that are as rare, asked for in another order."""
    differing = 0
    for common in range(3, 40):
        counts = {"a": 1, "b": 2, "c": common, "d": 2, "e": common, "f": 1}
        texts = ["a b c", "d e f", *(word for word, count in counts.items() for _ in range(count))]
        shares = WordIndex.over(texts).match("a b c d e f").shares
        differing += int(shares[0] != shares[1])
    assert differing == 0


@given(
    st.lists(st.text(alphabet="ab 茶绿_-é", max_size=8), max_size=6),
    st.text(alphabet="ab 茶绿_-é", max_size=6),
)
def test_the_index_agrees_with_a_plain_scan_of_the_texts(texts: list[str], query: str) -> None:
    """An item is found if and only if it shares a word; a single Chinese character matches inside runs."""
    wanted = set(words_of(query))
    singles = {word for word in wanted if word in "茶绿"}
    expected = [
        place
        for place, text in enumerate(texts)
        if wanted & set(words_of(text)) or any(single in text for single in singles)
    ]
    matches = WordIndex.over(texts).match(query)
    assert matches.items.tolist() == expected
    assert all(0 < share <= 1.000001 for share in matches.coverage.tolist())
    assert all(matches.held(item) for item in expected)


@given(
    st.lists(st.text("ab 茶绿红 ßＡé", max_size=12), max_size=12),
    st.lists(st.text("ab 茶绿红 ßＡé", max_size=12), max_size=4),
    st.text("ab 茶绿红 ßＡé", max_size=10),
)
def test_a_match_is_what_reading_every_text_gives(texts: list[str], added: list[str], query: str) -> None:
    """Items, held words and weights, over texts indexed together or some of them later."""
    everything = [*texts, *added]
    words = words_of(query)
    held = [
        {*words_of(text), *(sign for sign in unicodedata.normalize("NFKC", text) if sign in "茶绿红")}
        for text in everything
    ]
    expected = [item for item, own in enumerate(held) if own & set(words)]
    weights = {word: np.log1p(len(everything) / max(sum(word in own for own in held), 0.5)) for word in words}
    parts = WordIndex(word_columns(texts), word_columns(added))
    for matches in (WordIndex.over(everything).match(query), parts.match(query)):
        assert matches.items.tolist() == expected
        for row, item in enumerate(expected):
            assert set(matches.held(item)) == held[item] & set(words)
            share = sum(weights[word] for word in words if word in held[item]) / sum(weights.values())
            assert matches.coverage[row] == pytest.approx(share, rel=1e-5)
