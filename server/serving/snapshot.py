"""One model version over one catalogue, ready to rank: vectors, prior and words. It never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from model.catalogue import item_columns
from model.encoders import Encoder, EncoderName, encoder_named
from model.errors import EncoderError, ModelError
from model.features import Context, Histories, Moments, moments
from model.fusion import fusion_weights
from model.onnx_tower import tower_graph
from model.query_reader import QueryReader, reader_columns
from model.schema import Schema, Weights, check, user_tower_of
from model.segments import Segments
from model.two_tower import encode_items, encode_users, score
from server.errors import CatalogueError
from server.registry import ModelVersion
from server.serving.catalogue import Catalogue
from server.serving.index import VectorIndex
from server.serving.items import ItemTable, columns_of
from server.serving.promotions import Promotions, no_promotions
from server.serving.query import Surface
from server.serving.segments import segment_columns, segments_of
from server.serving.tower import UserTower
from server.serving.words import WordIndex

Floats = npt.NDArray[np.float32]

CLOCKLESS = ("order", "none")
"""Values of a card's `clock` under which event times are positions: the towers then see no time at all."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one answer is made from, so that no answer mixes two versions."""

    version: str
    card: Mapping[str, Any]
    """What the version says of itself: schema, clock, encoder, privacy statement."""
    items: ItemTable
    index: VectorIndex
    """Over rows [item vector | complement vector | prior], so that a question is one vector on every surface."""
    dim: int
    """Length of an item vector and of a user embedding."""
    fusion: Floats
    """(surfaces, features) weights of `model.fusion`."""
    catalogue: Catalogue
    item_vectors: Floats
    """(items, dim)"""
    item_lengths: Floats
    """(items,) L2 norms of the item vectors; 1 where a vector is zero."""
    popularity: Floats
    """(items,) the prior from the released, noisy item counts."""
    words: WordIndex
    user_weights: Weights
    """The parameters of the user tower and of the score, cut to the items of this catalogue."""
    has_clock: bool
    tower: UserTower
    reader: QueryReader
    """Reads what is searched for."""
    segments: Segments
    """`centres` are the tastes of shoppers with one event in the middle of a segment."""
    promotions: Promotions = field(default_factory=no_promotions)

    def moment(self, surface: Surface, timestamp: int) -> Moments:
        """The context of one ranking, as the user tower reads it; `timestamp` in Unix seconds."""
        return moments([Context(surface=surface.value, timestamp=timestamp if self.has_clock else None)])

    def user_vectors(self, histories: Histories, moment: Moments) -> Floats:
        """(histories, dim) user embeddings of alternative histories at one moment."""
        repeat = np.zeros(len(histories), dtype=np.int64)
        moments_of_all = Moments(moment.times[repeat], moment.codes[repeat])
        return encode_users(self.user_weights, self.item_vectors, histories, moments_of_all)

    def scores(self, user_vector: Floats) -> Floats:
        """(items,) scores of one user embedding (dim,)."""
        return np.asarray(score(self.user_weights, user_vector[None], self.item_vectors)[0])


def build_snapshot(model: ModelVersion, catalogue: Catalogue, merchant_id: str | None = None) -> Snapshot:
    """Embed the catalogue with `model`; of one merchant only, where `merchant_id` is given.

    Features weigh words by their rarity in the whole catalogue, so the whole is embedded before it is cut.
    Raises `CatalogueError` where the version's parameters do not fit the catalogue, or where its content encoder
    is not here.
    """
    encoder = _encoder_of(model)
    _check_fit(model, catalogue, encoder.columns)
    texts = item_columns(catalogue.table)
    features = encoder.encode(texts)
    vectors = encode_items(model.weights, features)
    reader = reader_columns(encoder, texts, features, model.weights["content"])
    bias = model.weights["item_bias"]
    complement = model.weights.get("complement", np.zeros((len(bias), 0), dtype=np.float32))
    if merchant_id is not None:
        rows = catalogue.rows_of(merchant_id)
        catalogue, vectors, bias = catalogue.take(rows), vectors[rows], bias[rows]
        complement = complement[rows]
    lengths = np.linalg.norm(vectors, axis=1)
    kept = {
        name: value
        for name, value in model.weights.items()
        if name not in ("item_id", "content", "complement", "fusion")
    }
    items = ItemTable(columns_of(catalogue.table))
    return Snapshot(
        version=model.version,
        card=model.card,
        items=items,
        index=VectorIndex(_rows(vectors, complement, bias), items.servable),
        dim=vectors.shape[1],
        fusion=fusion_weights(model.weights),
        catalogue=catalogue,
        item_vectors=vectors,
        item_lengths=np.where(lengths > 0, lengths, 1).astype(np.float32),
        popularity=bias,
        words=WordIndex.over(catalogue.texts()),
        user_weights={**kept, "item_bias": bias},
        has_clock=model.card.get("clock") not in CLOCKLESS,
        tower=UserTower(tower_graph(model.weights)),
        reader=QueryReader.of(reader),
        segments=segments_of(segment_columns(model.weights, vectors, items)),
    )


def _rows(vectors: Floats, complement: Floats, bias: Floats) -> Floats:
    """The rows of the vector index, [v | w | p] for each item."""
    return np.concatenate([vectors, complement, bias[:, None]], axis=1, dtype=np.float32)


def _encoder_of(model: ModelVersion) -> Encoder:
    """The content encoder that the card names: other features would not mean what the weights have learned."""
    card = model.card.get("encoder") or {"name": EncoderName.HASHED}
    try:
        encoder = encoder_named(card["name"])
    except EncoderError as error:
        raise CatalogueError(f"model version {model.version} cannot be served here: {error}") from error
    if card.get("version", encoder.version) != encoder.version:
        raise CatalogueError(
            f"model version {model.version} was made with version {card['version']} of the content encoder "
            f"{encoder.name}, here is {encoder.version}; install the same one, or train again"
        )
    return encoder


def _check_fit(model: ModelVersion, catalogue: Catalogue, features: int) -> None:
    table = model.weights.get("item_id")
    dim = table.shape[-1] if table is not None and table.ndim == 2 else 0
    schema = Schema(
        items=len(catalogue.item_ids),
        content_features=features,
        dim=dim,
        user_tower=user_tower_of(model.weights),
    )
    try:
        check(model.weights, schema)
    except ModelError as error:
        raise CatalogueError(
            f"model version {model.version} does not fit the catalogue of {schema.items} items: {error}; "
            "serve a version with the catalogue of its own run"
        ) from error
