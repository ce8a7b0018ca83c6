"""The endpoint encodes the catalogue with the encoder that the model version's card names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from ranking_world import build_snapshot

from model import query_reader
from model.catalogue import item_columns
from model.content import ItemColumns, item_features
from model.encoders import EncoderName, encoder_named
from model.errors import EncoderError
from model.schema import Weights
from model.two_tower import encode_items
from server.errors import CatalogueError
from server.registry import Registry
from server.serving import prepared_columns as module
from server.serving.catalogue import read_catalogue
from server.serving.snapshot import Snapshot


class Doubled:
    """An encoder whose features are the hashed ones twice as long."""

    name = EncoderName.MULTILINGUAL
    version = "7"
    columns = encoder_named("hashed").columns

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Hashed features times two."""
        return sp.csr_matrix(item_features(items) * np.float32(2.0))


def built(folder: Path, weights: Weights, card: dict[str, Any]) -> Snapshot:
    """The snapshot of a version with that card over the folder's catalogue."""
    version = Registry(folder / "registry").add(weights, card)
    return build_snapshot(version, read_catalogue(folder / "catalogue.parquet"))


def test_a_card_without_an_encoder_means_the_hashed_features(
    run_folder: Path, weights: Weights, catalogue: pl.DataFrame
) -> None:
    """Versions released before encoders had names are served as they were."""
    expected = encode_items(weights, item_features(item_columns(catalogue)))
    np.testing.assert_array_equal(built(run_folder, weights, {}).index.vectors[:, :-1], expected)


def test_the_cards_encoder_is_the_one_that_embeds(
    run_folder: Path, weights: Weights, catalogue: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of another encoder would be read as something they do not mean."""
    asked: list[str] = []

    def doubled(name: str) -> Doubled:
        asked.append(name)
        return Doubled()

    monkeypatch.setattr(module, "encoder_named", doubled)
    monkeypatch.setattr(query_reader, "encoder_named", lambda name: Doubled())
    snapshot = built(run_folder, weights, {"encoder": {"name": "multilingual", "version": "7"}})
    expected = encode_items(weights, Doubled().encode(item_columns(catalogue)))
    assert asked == ["multilingual"]
    np.testing.assert_array_equal(snapshot.index.vectors[:, :-1], expected)


def test_another_version_of_the_encoder_is_refused(run_folder: Path, weights: Weights) -> None:
    """The error names both versions and what to do."""
    with pytest.raises(CatalogueError, match=r"version 99 .* hashed, here is 1; install"):
        built(run_folder, weights, {"encoder": {"name": "hashed", "version": "99"}})


def test_an_encoder_that_is_not_here_is_refused(
    run_folder: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint says what to install and does not fall back to other features."""

    def missing(name: str) -> None:
        raise EncoderError(f"the content encoder {name!r} needs a package; run: pip install 'fedrank[text]'")

    monkeypatch.setattr(module, "encoder_named", missing)
    with pytest.raises(CatalogueError, match=r"cannot be served here.*fedrank\[text\]"):
        built(run_folder, weights, {"encoder": {"name": "multilingual", "version": "7"}})
