"""The prepared folders of snapshots: one for a model version over a catalogue, one for the items that came later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from server.registry import ModelVersion
from server.serving.catalogue import Catalogue
from server.serving.catalogue_changes import Changes, few_of
from server.serving.index_coarse import Coarse
from server.serving.items_strings import Columns
from server.serving.prepared import open_columns, write_columns
from server.serving.prepared_columns import added_columns, base_columns
from server.serving.snapshot import Snapshot, coarse_of, snapshot_of, with_added

_GROWING = ("vectors", "merchant_codes", "category_codes", "listed_at", "new_arrival", "promotion")
"""Arrays with a row per item that are mapped as one piece, items that came later included."""
_REPLACED = ("servable", "merchants_offsets", "merchants_bytes", "categories_offsets", "categories_bytes")
_COARSE = "coarse.faiss"


def make_base(
    folder: Path, model: ModelVersion, catalogue: Catalogue, changes: Changes, merchant_id: str | None
) -> Mapping[str, Any]:
    """Fill a folder with the arrays of a snapshot and its index, and say what `open_base` has to know.

    Raises `CatalogueError` as `base_columns` does.
    """
    columns = base_columns(model, catalogue, changes, merchant_id)
    spare = few_of(catalogue.table.height)
    write_columns(folder, columns, dict.fromkeys(_GROWING, spare))
    coarse = coarse_of(columns)
    about = {"version": model.version, "card": model.card, "items": len(columns["vectors"]), "coarse": None}
    if coarse is None:
        return about
    coarse.save(folder / _COARSE)
    return {**about, "coarse": {"items": coarse.items, "factor": coarse.factor, "recall": coarse.recall}}


def open_base(folder: Path, about: Mapping[str, Any]) -> Snapshot:
    """The snapshot of a folder that `make_base` has filled, over pages that all its readers share."""
    coarse = Coarse.load(folder / _COARSE, **about["coarse"]) if about["coarse"] else None
    columns = open_columns(folder)
    own = {name: values[: about["items"]] for name, values in columns.items() if name in _GROWING}
    return snapshot_of(about["version"], about["card"], {**columns, **own}, coarse)


def make_added(
    folder: Path, base: Path, snapshot: Snapshot, changes: Changes, merchant_id: str | None
) -> Mapping[str, Any]:
    """Fill a folder with the arrays of what changed since the folder `base` of `snapshot` was made."""
    columns = open_columns(base)
    own = {name: values[: len(snapshot.items)] for name, values in columns.items() if name in _GROWING}
    added = added_columns({**columns, **own}, snapshot.card, snapshot.version, changes, merchant_id)
    write_columns(folder, added)
    return {}


def open_added(folder: Path, base: Path, snapshot: Snapshot) -> Snapshot:
    """The snapshot of `base` with what changed: its rows end in the added ones, on pages of this process alone."""
    added = open_columns(folder)
    columns = open_columns(base)
    first = len(snapshot.items)
    grown = {name: _grown(columns[name], first, added[name]) for name in _GROWING if name in columns}
    replaced = {name: added[name] for name in _REPLACED}
    return with_added(snapshot, {**columns, **grown, **replaced}, added)


def _grown(values: npt.NDArray[Any], first: int, added: Columns | npt.NDArray[Any]) -> npt.NDArray[Any]:
    values[first : first + len(added)] = added
    return values[: first + len(added)]
