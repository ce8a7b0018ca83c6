"""Prepared folders: what somebody uses stays, whoever makes others, and the rest goes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.schema import Weights
from server.errors import CatalogueError
from server.registry import Registry
from server.serving import prepared_snapshot
from server.serving.catalogue_changes import Change, ChangeLog
from server.serving.prepared import KEPT, prepared
from server.serving.prepared_arrays import ArrayFile, open_columns, write_columns
from server.serving.snapshot_source import FOLDER, SnapshotSource


def source_of(run: Path, **chosen: str) -> SnapshotSource:
    """The snapshots of a run folder."""
    return SnapshotSource(Registry(run / "registry", unsigned=True), run / "catalogue.parquet", **chosen)


def in_stock(source: SnapshotSource) -> set[str]:
    """The servable items of this moment."""
    items = source.snapshot(source.state()).items
    return {items.item_id(row) for row in np.flatnonzero(items.servable).tolist()}


def sell_out(run: Path, item_id: str) -> None:
    """Write one change into the log."""
    ChangeLog.of(run / "catalogue.parquet").append(Change(stock={item_id: False}))


def make(folder: Path) -> Mapping[str, Any]:
    """Fill a folder with one array."""
    write_columns(folder, {"numbers": np.arange(3)})
    return {}


def names(root: Path) -> set[str]:
    """The prepared folders that are there."""
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_more_changes_than_folders_are_kept_are_all_taken(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an endpoint that runs and by one that starts after them; the base is made once, and old changes go."""
    source = source_of(run_folder)
    everything = in_stock(source)
    monkeypatch.setattr(prepared_snapshot, "base_columns", lambda *_: pytest.fail("made again"))
    for number in range(KEPT + 3):
        sell_out(run_folder, f"item-{number:02d}")
        expected = everything - {f"item-{sold:02d}" for sold in range(number + 1)}
        assert in_stock(source) == expected
    assert in_stock(source_of(run_folder)) == expected
    assert len(names(run_folder / FOLDER)) <= KEPT + 1


def test_endpoints_of_two_merchants_leave_each_other_their_bases(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One takes many changes, the other none until the end."""
    busy, quiet = (source_of(run_folder, merchant_id=f"merchant-{number}") for number in (0, 1))
    before = in_stock(busy), in_stock(quiet)
    monkeypatch.setattr(prepared_snapshot, "base_columns", lambda *_: pytest.fail("made again"))
    sold = {f"item-{row:02d}" for row in range(0, 3 * (KEPT + 3), 3)}
    for item_id in sorted(sold):
        sell_out(run_folder, item_id)
        in_stock(busy)
    sell_out(run_folder, "item-01")
    assert in_stock(quiet) == before[1] - {"item-01"}
    assert in_stock(busy) == before[0] - sold


def test_what_another_process_has_open_is_not_removed(run_folder: Path, weights: Weights) -> None:
    """A second process serves an older version while many newer ones are prepared; it then takes a change."""
    registry = Registry(run_folder / "registry", unsigned=True)
    older = registry.promoted()
    assert older is not None
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve_older, args=(run_folder, older, there)
    )
    process.start()
    assert here.recv() == 60
    (held,) = names(run_folder / FOLDER)
    for number in range(KEPT + 3):
        version = registry.add({**weights, "gain": weights["gain"] * (number + 2)}, {}).version
        in_stock(source_of(run_folder, version=version))
        os.utime(run_folder / FOLDER / held, (0, 0))
    assert held in names(run_folder / FOLDER) and len(names(run_folder / FOLDER)) == KEPT + 1
    sell_out(run_folder, "item-07")
    here.send("go on")
    assert here.recv() == 59
    process.join(20)
    in_stock(
        source_of(run_folder, version=registry.add({**weights, "gain": weights["gain"] / 2}, {}).version)
    )
    assert len(names(run_folder / FOLDER)) <= KEPT + 1


def _serve_older(run: Path, version: str, told: Connection) -> None:
    source = source_of(run, version=version)
    told.send(len(in_stock(source)))
    told.recv()
    told.send(len(in_stock(source)))


def test_a_folder_stays_as_long_as_it_is_held(tmp_path: Path) -> None:
    """From the moment it is found; without a holder the one used longest ago goes."""
    held = prepared(tmp_path, "held", make)
    for number in range(KEPT):
        prepared(tmp_path, f"other-{number}", make)
        os.utime(tmp_path / "held", (0, 0))
    assert len(names(tmp_path)) == KEPT + 1 and held.folder.is_dir()
    del held
    prepared(tmp_path, "last", make)
    assert "held" not in names(tmp_path) and len(names(tmp_path)) == KEPT


def test_a_base_stays_as_long_as_what_was_made_from_it(tmp_path: Path) -> None:
    """Using what came later is using the base."""
    prepared(tmp_path, "base", make)
    prepared(tmp_path, "base.1", make)
    os.utime(tmp_path / "base", (0, 0))
    for number in range(KEPT - 1):
        prepared(tmp_path, f"other-{number}", make)
    assert {"base", "base.1"} <= names(tmp_path)
    os.utime(tmp_path / "base", (0, 0))
    prepared(tmp_path, "base.1", make)
    assert (tmp_path / "base").stat().st_mtime > 0


def test_a_run_folder_that_was_emptied_is_filled_again_by_the_next_change(run_folder: Path) -> None:
    """Whoever deletes prepared folders costs an endpoint nothing that it cannot make again."""
    source = source_of(run_folder)
    in_stock(source)
    shutil.rmtree(run_folder / FOLDER)
    sell_out(run_folder, "item-07")
    assert "item-07" not in in_stock(source)


def test_a_folder_without_arrays_is_named(tmp_path: Path) -> None:
    """The error says what happens next."""
    with pytest.raises(CatalogueError, match=r"gone is gone; it is made again"):
        open_columns(tmp_path / "gone")


def test_an_open_file_is_mapped_anew_after_it_was_removed(tmp_path: Path) -> None:
    """Each time as it was written, whatever was done to the array before; without rows too."""
    write_columns(tmp_path, {"some": np.arange(6).reshape(2, 3), "none": np.zeros((0, 4))}, {"some": 1})
    files = {name: ArrayFile(tmp_path / f"{name}.npy") for name in ("some", "none")}
    shutil.rmtree(tmp_path)
    for _ in range(2):
        array = files["some"].mapped()
        np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5], [0, 0, 0]])
        array[:] = 9
    assert files["none"].mapped().shape == (0, 4)
