"""Words searched for are read as the item tower reads the words of an item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.content import CONTENT_FEATURES, TEXT_COLUMNS, ItemColumns, item_features
from model.encoder_cache import VectorCache
from model.encoders import SENTENCE_COLUMNS, Encoder, Hashed, Multilingual
from model.query_reader import QueryReader, reader_columns

DIM = 6
TITLES = ["dark coffee", "green tea", "绿茶 茶叶", "Earl Grey tea", None, "tea pot tea"]
NOTHING = [None] * len(TITLES)
ITEMS = ItemColumns(
    titles=TITLES, categories=NOTHING, brands=NOTHING, prices=NOTHING, descriptions=["", *NOTHING[1:]]
)


def sentences(texts: Sequence[str]) -> NDArray[np.float32]:
    """Stands for the pretrained encoder: a fixed random vector per text, English and Chinese tea being near."""
    tea = np.random.default_rng(1).normal(size=SENTENCE_COLUMNS)
    seeds = [int.from_bytes(text.encode()[:8].ljust(8), "little") for text in texts]
    own = [np.random.default_rng(seed).normal(size=SENTENCE_COLUMNS) for seed in seeds]
    about_tea = ["tea" in text or "茶" in text for text in texts]
    found = [vector + 3 * tea * is_tea for vector, is_tea in zip(own, about_tea, strict=True)]
    return np.asarray(found, dtype=np.float32)


def reader_of(encoder: Encoder, content: NDArray[np.float32]) -> QueryReader:
    """The reader of the small catalogue, from its tables."""
    columns = reader_columns(encoder, ITEMS, encoder.encode(ITEMS), content)
    assert all(isinstance(value, np.ndarray) for value in columns.values())
    if isinstance(encoder, Hashed):
        return QueryReader.of(columns)
    return QueryReader(
        rarity=columns["reader_rarity"],
        words=columns["reader_words"],
        means=columns["reader_means"],
        sentence_weights=columns["reader_sentences"],
        sentences=sentences,
    )


def weights(columns: int) -> NDArray[np.float32]:
    """Random weights of an item tower's content."""
    return np.random.default_rng(2).normal(size=(columns, DIM)).astype(np.float32)


@pytest.mark.parametrize("row", [0, 1, 2, 3, 5])
def test_the_title_of_an_item_is_read_as_the_item_tower_reads_it(row: int) -> None:
    """English, Chinese, repeated words: the vector of the words is the text part of the item's own vector."""
    content = weights(CONTENT_FEATURES)
    read = reader_of(Hashed(), content).read(TITLES[row] or "")
    expected = item_features(ITEMS)[row, :TEXT_COLUMNS] @ content[:TEXT_COLUMNS]
    assert read is not None
    np.testing.assert_allclose(read, np.asarray(expected).ravel(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["", "!!!", "submarine"])
def test_words_that_no_item_holds_say_nothing(text: str) -> None:
    """Their hashed columns mean other words, if any."""
    reader = reader_of(Hashed(), weights(CONTENT_FEATURES))
    assert reader.read(text) is None
    assert not reader.reads_sentences


def test_an_encoder_of_sentences_reads_meaning_across_languages(tmp_path: Path) -> None:
    """A Chinese question has the vector of an English one about the same thing; the catalogue's mean is taken off."""
    encoder = Multilingual(
        version="test", sentences=sentences, cache=VectorCache(folder=tmp_path, columns=SENTENCE_COLUMNS)
    )
    content = weights(encoder.columns)
    content[:CONTENT_FEATURES] = 0
    reader = reader_of(encoder, content)
    assert reader.reads_sentences
    tea, cha, stone = (reader.read(text) for text in ("tea", "茶", "stone"))
    assert tea is not None and cha is not None and stone is not None
    assert _cosine(tea, cha) > 0.5 > _cosine(tea, stone)
    title = encoder.encode(ITEMS)[1] @ content
    read = reader.read("green tea")
    assert read is not None
    np.testing.assert_allclose(
        read, np.asarray(title).ravel(), rtol=1e-2, atol=1e-2
    )  # cached in half precision


def test_a_question_is_never_written_to_the_cache_of_embeddings(tmp_path: Path) -> None:
    """The cache is a file: what a shopper looks for does not belong there."""
    encoder = Multilingual(
        version="test", sentences=sentences, cache=VectorCache(folder=tmp_path, columns=SENTENCE_COLUMNS)
    )
    reader = reader_of(encoder, weights(encoder.columns))
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    reader.read("something private")
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
