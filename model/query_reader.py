"""What words searched for say in the space of the items: read by the encoder that the item tower was trained with.

The item tower is linear in the features of a text, and a catalogue weighs words by their rarity and takes the mean
off its sentence embeddings. So a reader needs a few tables of the catalogue and no item of it. A word that no item's
text holds says nothing, as its column means other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from model.content import CONTENT_FEATURES, TEXT_COLUMNS, ItemColumns, hashed, tokens
from model.encoders import Encoder, Multilingual, Sentences, encoder_named, text_means

Floats = NDArray[np.float32]


def reader_columns(
    encoder: Encoder, items: ItemColumns, features: sp.csr_matrix, content: Floats
) -> dict[str, NDArray[Any]]:
    """Return the tables of a reader as arrays that a prepared folder can hold.

    Args:
        encoder: what made `features`.
        items: the whole public catalogue.
        features: (items, columns) of the catalogue.
        content: (columns, dim) weights of the item tower.
    """
    holders = features[:, :TEXT_COLUMNS].getnnz(axis=0)
    rarity = np.where(holders > 0, np.log1p(len(items.titles) / np.maximum(holders, 1)), 0.0)
    dim = content.shape[1]
    return {
        "reader_encoder": np.frombuffer(encoder.name.encode(), dtype=np.uint8),
        "reader_rarity": rarity.astype(np.float32),
        "reader_words": np.ascontiguousarray(content[:TEXT_COLUMNS], dtype=np.float32),
        "reader_means": text_means(encoder, items),
        "reader_sentences": content[CONTENT_FEATURES:].reshape(-1, dim).astype(np.float32),
    }


@dataclass(frozen=True, kw_only=True)
class QueryReader:
    """Reads texts into the space of the item vectors; `sentences` is None where the encoder has only words."""

    rarity: Floats
    words: Floats
    means: Floats
    sentence_weights: Floats
    sentences: Sentences | None

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> QueryReader:
        """Return the reader that `reader_columns` made; raises `EncoderError` where its encoder is not here."""
        encoder = encoder_named(columns["reader_encoder"].tobytes().decode())
        return cls(
            rarity=columns["reader_rarity"],
            words=columns["reader_words"],
            means=columns["reader_means"],
            sentence_weights=columns["reader_sentences"],
            sentences=encoder.sentences if isinstance(encoder, Multilingual) else None,
        )

    @property
    def reads_sentences(self) -> bool:
        """Whether words that no item holds may mean something."""
        return self.sentences is not None

    def read(self, text: str) -> Floats | None:
        """Return the vector (dim,) of a text; None where nothing of it is known here."""
        found = self._of_words(text)
        if self.sentences is None:
            return found
        said = self._of_sentence(text, self.sentences)
        return said if found is None else found + said

    def _of_words(self, text: str) -> Floats | None:
        counts = Counter(hashed(token, TEXT_COLUMNS) for token in tokens(text))
        columns = np.fromiter(counts.keys(), dtype=np.int64, count=len(counts))
        values = np.fromiter(counts.values(), dtype=np.float32, count=len(counts)) * self.rarity[columns]
        length = float(np.linalg.norm(values))
        return np.asarray(values / length @ self.words[columns], dtype=np.float32) if length > 0 else None

    def _of_sentence(self, text: str, sentences: Sentences) -> Floats:
        moved = sentences([text]) - self.means
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        units = moved / np.where(lengths > 1e-6, lengths, np.inf)
        return np.asarray(units.ravel() @ self.sentence_weights, dtype=np.float32)
