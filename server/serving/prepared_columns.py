"""From a model version and a catalogue to the arrays of a snapshot, and to those of items that came later."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from model.catalogue import digest_of_ids, item_columns
from model.encoders import Encoder, EncoderName, encoder_named
from model.errors import EncoderError, ModelError
from model.fusion import fusion_weights
from model.onnx_tower import tower_graph
from model.query_reader import reader_columns
from model.schema import Schema, check, complement_of, user_tower_of
from model.two_tower import encode_items
from server.errors import CatalogueError
from server.registry import ModelVersion
from server.serving.catalogue import Catalogue, texts_of
from server.serving.catalogue_changes import Changes
from server.serving.items import ItemTable, columns_of
from server.serving.items_strings import Columns
from server.serving.segments import segment_columns
from server.serving.words import word_columns

Floats = npt.NDArray[np.float32]

SAMPLE = 2_000
"""Rows of the catalogue kept for the items that come later: features weigh words by their rarity among items."""
_NEXT = "serve a version with the catalogue of its own run"
_LOW_PRIOR = 0.1
"""Quantile of the released counts that an item without any gets."""


def base_columns(
    model: ModelVersion, catalogue: Catalogue, changes: Changes, merchant_id: str | None = None
) -> Columns:
    """The arrays of a snapshot of `model` over the changed catalogue; of one merchant, where one is given.

    Features weigh words by their rarity in the catalogue that was trained on, so that whole one is embedded first.
    Raises `CatalogueError` where the parameters do not fit the catalogue, where the content encoder is not here, or
    where the merchant has no item.
    """
    encoder = encoder_of(model.version, model.card)
    check_fit(model, catalogue, encoder.columns)
    texts = item_columns(catalogue.table)
    features = encoder.encode(texts)
    vectors = encode_items(model.weights, features)
    trained = np.concatenate(
        [vectors, complement_of(model.weights), model.weights["item_bias"][:, None]], axis=1
    )
    content = model.weights["content"]
    evenly = np.unique(np.linspace(0, catalogue.table.height - 1, SAMPLE).astype(np.int64))
    sample = catalogue.table[evenly]
    added = _added_rows(changes.added, sample, encoder, content, trained)
    table, rows = _changed(catalogue.table, np.concatenate([trained, added], dtype=np.float32), changes)
    table, rows = _of_merchant(table, rows, merchant_id)
    columns = {"vectors": rows, **columns_of(table), **word_columns(texts_of(table))}
    dim = vectors.shape[1]
    return {
        **columns,
        **reader_columns(encoder, texts, features, content),
        **segment_columns(model.weights, rows[:, :dim], ItemTable(columns)),
        "tower": np.frombuffer(tower_graph(model.weights), dtype=np.uint8),
        "fusion": fusion_weights(model.weights),
        "gain": model.weights["gain"],
        "content": content,
        "sample": _packed(sample),
    }


def added_columns(
    base: Columns, card: Mapping[str, Any], version: str, changes: Changes, merchant_id: str | None
) -> Columns:
    """The arrays of the items that came after `base` was made, and which of all items are servable now."""
    table = changes.added
    if merchant_id is not None:
        table = table.filter(pl.col("merchant_id") == merchant_id)
    known = ItemTable(base)
    columns = columns_of(table, known.merchants, known.categories)
    rows = _added_rows(
        table, _unpacked(base["sample"]), encoder_of(version, card), base["content"], base["vectors"]
    )
    return {
        **{name: columns.get(name, np.zeros(table.height, dtype=np.bool_)) for name in known.flags},
        **columns,
        **word_columns(texts_of(table)),
        "vectors": rows,
        "servable": np.concatenate([_servable(known, base["hidden"], changes), columns["servable"]]),
    }


def encoder_of(version: str, card: Mapping[str, Any]) -> Encoder:
    """The content encoder that the card names: other features would not mean what the weights have learned."""
    named = card.get("encoder") or {"name": EncoderName.HASHED}
    try:
        encoder = encoder_named(named["name"])
    except EncoderError as error:
        raise CatalogueError(f"model version {version} cannot be served here: {error}") from error
    if named.get("version", encoder.version) != encoder.version:
        raise CatalogueError(
            f"model version {version} was made with version {named['version']} of the content encoder "
            f"{encoder.name}, here is {encoder.version}; install the same one, or train again"
        )
    return encoder


def check_fit(model: ModelVersion, catalogue: Catalogue, features: int) -> None:
    """Raise `CatalogueError` unless the parameters are those of a model over this catalogue, item by item.

    Versions made before cards had `item_ids` are known by their shapes alone.
    """
    table = model.weights.get("item_id")
    dim = table.shape[-1] if table is not None and table.ndim == 2 else 0
    schema = Schema(
        items=catalogue.table.height,
        content_features=features,
        dim=dim,
        user_tower=user_tower_of(model.weights),
    )
    try:
        check(model.weights, schema)
    except ModelError as error:
        raise CatalogueError(
            f"model version {model.version} does not fit the catalogue of {schema.items} items: {error}; {_NEXT}"
        ) from error
    ids = digest_of_ids(catalogue.table["item_id"].to_list())
    if model.card.get("item_ids", ids) != ids:
        raise CatalogueError(
            f"model version {model.version} was trained on {schema.items} other items than those of the catalogue, "
            f"or on the same in another order, so that it would rank them by what it learned of others; {_NEXT}"
        )


def _added_rows(
    table: pl.DataFrame, sample: pl.DataFrame, encoder: Encoder, content: Floats, known: Floats
) -> Floats:
    """Rows [v | 0 | p] of items that no model has learned: v by the content tower alone, p a low known prior."""
    rows = np.zeros((table.height, known.shape[1]), dtype=np.float32)
    if table.height:
        features = encoder.encode(item_columns(pl.concat([sample, table], how="diagonal_relaxed")))
        rows[:, : content.shape[1]] = features[sample.height :] @ content
        rows[:, -1] = np.quantile(known[:, -1], _LOW_PRIOR)
    return rows


def _changed(table: pl.DataFrame, rows: Floats, changes: Changes) -> tuple[pl.DataFrame, Floats]:
    kept = ~table["item_id"].is_in(sorted(changes.removed)).to_numpy()
    always = np.ones(len(rows) - table.height, dtype=np.bool_)
    return changes.applied(table), rows[np.concatenate([kept, always])]


def _of_merchant(table: pl.DataFrame, rows: Floats, merchant_id: str | None) -> tuple[pl.DataFrame, Floats]:
    if merchant_id is None:
        return table, rows
    own = Catalogue(table=table).rows_of(merchant_id)
    return table[own], rows[own]


def _servable(known: ItemTable, hidden: npt.NDArray[np.bool_], changes: Changes) -> npt.NDArray[np.bool_]:
    """Which of the older items are servable after the changes."""
    servable = np.array(known.servable)
    rows = known.find(list(changes.stock))
    there = np.array(list(changes.stock.values()), dtype=np.bool_)
    servable[rows[rows >= 0]] = there[rows >= 0] & ~hidden[rows[rows >= 0]]
    gone = known.find(list(changes.removed))
    servable[gone[gone >= 0]] = False
    return servable


def _packed(table: pl.DataFrame) -> npt.NDArray[np.uint8]:
    packed = io.BytesIO()
    table.write_parquet(packed)
    return np.frombuffer(packed.getvalue(), dtype=np.uint8)


def _unpacked(packed: npt.NDArray[np.uint8]) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(packed.tobytes()))
