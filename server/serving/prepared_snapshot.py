"""The prepared folders of snapshots: one for a model version over a catalogue, one for the items that came later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from server.registry import ModelVersion
from server.serving.catalogue import Catalogue
from server.serving.catalogue_changes import Changes, few_of
from server.serving.index_coarse import Coarse
from server.serving.items_strings import Columns
from server.serving.prepared_arrays import ArrayFile, array_files, open_columns, write_columns
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


@dataclass(frozen=True, kw_only=True)
class OpenBase:
    """What `make_base` made, open: later changes need its folder no more."""

    snapshot: Snapshot
    columns: Columns
    """Of the items of the snapshot."""
    growing: Mapping[str, ArrayFile]
    """The arrays that have spare rows."""


def open_base(folder: Path, about: Mapping[str, Any]) -> OpenBase:
    """Open a folder that `make_base` has filled, over pages that all its readers share.

    Raises `CatalogueError` where the folder is gone.
    """
    files = array_files(folder)
    coarse = Coarse.load(folder / _COARSE, **about["coarse"]) if about["coarse"] else None
    mapped = {name: file.mapped() for name, file in files.items()}
    growing = {name: file for name, file in files.items() if name in _GROWING}
    columns = {**mapped, **{name: mapped[name][: about["items"]] for name in growing}}
    snapshot = snapshot_of(about["version"], about["card"], columns, coarse)
    return OpenBase(snapshot=snapshot, columns=columns, growing=growing)


def make_added(folder: Path, base: OpenBase, changes: Changes, merchant_id: str | None) -> Mapping[str, Any]:
    """Fill a folder with the arrays of what changed since `base` was made."""
    snapshot = base.snapshot
    write_columns(folder, added_columns(base.columns, snapshot.card, snapshot.version, changes, merchant_id))
    return {}


def open_added(folder: Path, base: OpenBase) -> Snapshot:
    """The snapshot of `base` with what changed: its rows end in the added ones, on pages of this snapshot alone.

    They are mapped for each change anew, as answers in progress still read those of the change before.
    """
    added = open_columns(folder)
    first = len(base.snapshot.items)
    grown = {name: _grown(file.mapped(), first, added[name]) for name, file in base.growing.items()}
    replaced = {name: added[name] for name in _REPLACED}
    return with_added(base.snapshot, {**base.columns, **grown, **replaced}, added)


def _grown(values: npt.NDArray[Any], first: int, added: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values[first : first + len(added)] = added
    return values[: first + len(added)]
