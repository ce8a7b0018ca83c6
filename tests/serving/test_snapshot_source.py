"""Snapshots over shared folders: the same whether in memory, prepared or changed, and whole or made again."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from ranking_world import build_snapshot

from model.catalogue import digest_of_ids, item_columns
from model.content import item_features
from model.schema import Weights
from server.errors import CatalogueError, NothingPromoted
from server.registry import Registry
from server.serving import catalogue_changes, prepared_snapshot, snapshot_source
from server.serving.catalogue import Catalogue, read_catalogue
from server.serving.catalogue_changes import Change, ChangeLog
from server.serving.logs import AllowListFormatter, LogFormat
from server.serving.snapshot import Snapshot
from server.serving.snapshot_source import FOLDER, SnapshotSource

NEW = {"item_id": "new-1", "title": "jade tea 玉", "category": "Novelties", "merchant_id": "merchant-9"}
SECOND = {
    "item_id": "new-2",
    "title": "jade pot",
    "category": "Grocery > shelf 1",
    "merchant_id": "merchant-0",
}


WORDS = {"flip": "changed", "cut": "changed", "remove": "incomplete", "manifest": "unreadable"}
"""What the log calls each kind of damage."""


def source_of(run: Path, **chosen: str) -> SnapshotSource:
    """The snapshots of a run folder."""
    return SnapshotSource(Registry(run / "registry", unsigned=True), run / "catalogue.parquet", **chosen)


def now(source: SnapshotSource) -> Snapshot:
    """The snapshot of this moment."""
    return source.snapshot(source.state())


def listed(snapshot: Snapshot, *, query: int = 0) -> list[str]:
    """Every servable item, best first, for one of some questions."""
    questions = (
        np.random.default_rng(query).normal(size=(1, snapshot.index.vectors.shape[1])).astype(np.float32)
    )
    items = snapshot.index.search(questions, len(snapshot.items))[0][0]
    return [snapshot.items.item_id(item) for item in items[items >= 0].tolist()]


def found(snapshot: Snapshot, words: str) -> list[str]:
    """The items that hold a word."""
    return [snapshot.items.item_id(item) for item in snapshot.words.match(words).items.tolist()]


def in_memory(run: Path, merchant_id: str | None = None) -> Snapshot:
    """The promoted version without any folder."""
    registry = Registry(run / "registry", unsigned=True)
    version = registry.promoted()
    assert version is not None
    return build_snapshot(registry.get(version), read_catalogue(run / "catalogue.parquet"), merchant_id)


@pytest.mark.parametrize("merchant_id", [None, "merchant-1"])
def test_a_prepared_snapshot_is_the_one_in_memory(run_folder: Path, merchant_id: str | None) -> None:
    """Vectors, items, words and segments, opened by a second source from the folder of the first."""
    chosen = {} if merchant_id is None else {"merchant_id": merchant_id}
    now(source_of(run_folder, **chosen))
    snapshot, plain = now(source_of(run_folder, **chosen)), in_memory(run_folder, merchant_id)
    np.testing.assert_array_equal(snapshot.index.vectors, plain.index.vectors)
    np.testing.assert_array_equal(snapshot.fusion, plain.fusion)
    assert [snapshot.items.wire(i) for i in range(len(plain.items))] == [
        plain.items.wire(i) for i in range(len(plain.items))
    ]
    assert listed(snapshot) == listed(plain)
    assert found(snapshot, "tea 茶") == found(plain, "tea 茶") != []
    assert snapshot.segments.names == plain.segments.names
    assert (snapshot.version, snapshot.card, snapshot.dim) == (plain.version, plain.card, plain.dim)


def test_a_folder_is_made_once_and_opened_by_all(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second source finds the folder of the first; neither vectors nor texts are made again."""
    now(source_of(run_folder))
    monkeypatch.setattr(prepared_snapshot, "base_columns", lambda *_: pytest.fail("made again"))
    now(source_of(run_folder))


def test_what_a_process_writes_to_its_pages_reaches_no_file(run_folder: Path) -> None:
    """Arrays are mapped privately: another process sees them as they were made."""
    first = now(source_of(run_folder)).index.vectors
    before = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(now(source_of(run_folder)).index.vectors, before)


@pytest.mark.parametrize("harm", WORDS)
def test_a_damaged_folder_is_refused_and_made_again(
    run_folder: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped byte, a cut or missing file, a bad manifest: the operator reads which, and answers are right."""
    now(source_of(run_folder))
    file = next((run_folder / FOLDER).glob("*/vectors.npy"))
    if harm == "flip":
        data = bytearray(file.read_bytes())
        data[200] ^= 1
        file.write_bytes(data)
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif harm == "remove":
        file.unlink()
    else:
        (file.parent / "manifest.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        snapshot = now(source_of(run_folder))
    told = [AllowListFormatter(LogFormat.TEXT).format(record) for record in caplog.records]
    assert "%" not in "".join(told)
    assert f"is made again when it is needed what={WORDS[harm]}" in told[0]
    assert f"folder={file.parent.name}" in told[0]
    np.testing.assert_array_equal(snapshot.index.vectors, in_memory(run_folder).index.vectors)


def test_a_half_made_folder_is_never_seen(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that fails leaves nothing behind, and the next one succeeds."""

    def failing(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(prepared_snapshot, "coarse_of", failing)
        with pytest.raises(OSError, match="no space"):
            now(source_of(run_folder))
    assert [path.name for path in (run_folder / FOLDER).iterdir()] == [".lock"]
    now(source_of(run_folder))


def test_several_processes_at_once_make_one_folder(run_folder: Path) -> None:
    """The others wait for the builder and open what it made."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        answers = pool.map(_first_items, [run_folder] * 3)
    assert answers[0] == answers[1] == answers[2] == listed(in_memory(run_folder))
    folders = [path for path in (run_folder / FOLDER).iterdir() if path.is_dir()]
    assert len(folders) == 1


def _first_items(run: Path) -> list[str]:
    return listed(now(source_of(run)))


def test_folders_opened_long_ago_go(
    run_folder: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the number that is kept the oldest are removed when another is made; what is open stays usable."""
    monkeypatch.setattr("server.serving.prepared.KEPT", 2)
    registry = Registry(run_folder / "registry", unsigned=True)
    first = now(source_of(run_folder))
    for number in range(3):
        version = registry.add({**weights, "gain": weights["gain"] * (number + 2)}, {}).version
        now(source_of(run_folder, version=version))
    folders = [path for path in (run_folder / FOLDER).iterdir() if path.is_dir()]
    assert len(folders) == 2
    assert len(listed(first)) == 60


def test_without_a_promoted_version_there_is_no_state(tmp_path: Path) -> None:
    """The error says what to do."""
    with pytest.raises(NothingPromoted, match="promote one"):
        source_of(tmp_path).state()


def test_another_catalogue_file_is_prepared_anew(run_folder: Path, catalogue: pl.DataFrame) -> None:
    """The folder is known by the content of the catalogue, not by its name."""
    now(source_of(run_folder))
    catalogue.with_columns(title=pl.lit("other")).write_parquet(run_folder / "catalogue.parquet")
    assert found(now(source_of(run_folder)), "other") == catalogue["item_id"].to_list()


def test_a_new_catalogue_begins_without_the_changes_of_the_old_one(
    run_folder: Path, catalogue: pl.DataFrame
) -> None:
    """A training brings a catalogue that knows what came and went; a source that runs takes it."""
    source = source_of(run_folder)
    ChangeLog.of(run_folder / "catalogue.parquet").append(Change(removed=["item-01"]))
    assert "item-01" not in listed(now(source))
    catalogue.with_columns(brand=pl.lit("other")).write_parquet(run_folder / "catalogue.parquet")
    assert "item-01" in listed(now(source))


def test_a_catalogue_that_is_replaced_while_it_is_read_poisons_nothing(
    run_folder: Path, catalogue: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither contents under the key of the others is prepared: whichever is there then is the one that is served."""
    path = run_folder / "catalogue.parquet"
    before = path.read_bytes()

    def replaced(path: Path) -> Catalogue:
        catalogue.with_columns(title=pl.lit("other")).write_parquet(path)
        return read_catalogue(path)

    source = source_of(run_folder)
    with monkeypatch.context() as patched:
        patched.setattr(snapshot_source, "read_catalogue", replaced)
        with pytest.raises(CatalogueError, match="was replaced while it was read"):
            now(source)
    assert len(found(now(source), "other")) == 60
    path.write_bytes(before)
    assert found(now(source_of(run_folder)), "other") == []


def test_a_state_of_an_older_catalogue_is_not_mixed_with_the_new_one(
    run_folder: Path, catalogue: pl.DataFrame
) -> None:
    """The changes it counts are those of another log."""
    source = source_of(run_folder)
    ChangeLog.of(run_folder / "catalogue.parquet").append(Change(removed=["item-01"]))
    state = source.state()
    catalogue.with_columns(brand=pl.lit("other")).write_parquet(run_folder / "catalogue.parquet")
    with pytest.raises(CatalogueError, match="was replaced while it was read"):
        source.snapshot(state)
    assert "item-01" in listed(now(source))


@pytest.mark.parametrize("others", ["renamed", "reversed"])
def test_a_version_is_not_served_with_other_items_of_the_same_number(
    run_folder: Path, catalogue: pl.DataFrame, weights: Weights, others: str
) -> None:
    """Its card knows the ids it was trained on, in their order."""
    ids = catalogue["item_id"]
    card = {"item_ids": digest_of_ids(ids.to_list())}
    version = Registry(run_folder / "registry").add(weights, card).version
    assert len(now(source_of(run_folder, version=version)).items) == 60
    changed = ids.replace("item-03", "item-3") if others == "renamed" else ids.reverse()
    catalogue.with_columns(item_id=changed).write_parquet(run_folder / "catalogue.parquet")
    with pytest.raises(CatalogueError, match=r"trained on 60 other items.*catalogue of its own run"):
        now(source_of(run_folder, version=version))


def test_an_added_item_is_found_by_id_vector_and_word(run_folder: Path, weights: Weights) -> None:
    """Its vector comes from its content alone, its prior is low, and the older rows are as they were."""
    source = source_of(run_folder)
    before = now(source)
    ChangeLog.of(run_folder / "catalogue.parquet").append(Change(added=[NEW, SECOND]))
    after = now(source)
    assert len(before.items) == 60 and len(after.items) == 62
    assert after.items.find(["new-1", "new-2", "item-03", "none"]).tolist() == [60, 61, 3, -1]
    np.testing.assert_array_equal(after.index.vectors[:60], before.index.vectors)
    texts = pl.concat(
        [read_catalogue(run_folder / "catalogue.parquet").table, pl.DataFrame([NEW, SECOND])], how="diagonal"
    )
    expected = item_features(item_columns(texts))[60:] @ weights["content"]
    np.testing.assert_allclose(after.index.vectors[60:, :8], expected, rtol=1e-4, atol=1e-5)
    assert after.index.vectors[60, -1] < np.median(before.index.vectors[:, -1])
    assert found(after, "jade") == ["new-1", "new-2"] and found(before, "jade") == []
    named = (after.items.title(60), after.items.merchant_id(60), after.items.category(60))
    assert named == ("jade tea 玉", "merchant-9", "Novelties")
    assert after.items.merchant_codes[61] == after.items.merchant_codes[0]
    assert set(listed(after)) - set(listed(before)) == {"new-1", "new-2"}


def test_a_removed_item_is_never_listed_again(run_folder: Path) -> None:
    """Neither an old one nor a new one; a history may still name it. It may come again as a new item."""
    source, log = source_of(run_folder), ChangeLog.of(run_folder / "catalogue.parquet")
    log.append(Change(added=[NEW]))
    log.append(Change(removed=["item-07", "new-1", "never-there"]))
    after = now(source)
    for query in range(20):
        assert not {"item-07", "new-1"} & set(listed(after, query=query))
    assert after.items.find(["item-07"]).tolist() == [7]
    log.append(Change(added=[{**NEW, "item_id": "item-07"}]))
    again = now(source)
    assert again.items.title(int(again.items.find(["item-07"])[0])) == NEW["title"]
    assert listed(again).count("item-07") == 1


def test_stock_comes_and_goes(run_folder: Path) -> None:
    """Of old and of new items; the last word counts, and words about unknown items do nothing."""
    source, log = source_of(run_folder), ChangeLog.of(run_folder / "catalogue.parquet")
    log.append(Change(added=[{**NEW, "in_stock": False}]))
    log.append(Change(stock={"item-01": False, "item-02": False, "unknown": False}))
    assert {"new-1", "item-01", "item-02"}.isdisjoint(listed(now(source)))
    log.append(Change(stock={"item-01": True, "new-1": True, "unknown": True}))
    assert set(listed(now(source))) == {f"item-{row:02d}" for row in range(60) if row != 2} | {"new-1"}


def test_hidden_items_do_not_appear_by_being_in_stock(run_folder: Path, catalogue: pl.DataFrame) -> None:
    """Hidden is the shop's word, stock a fact."""
    hidden = pl.Series("hidden", [row == 5 for row in range(60)])
    catalogue.with_columns(hidden).write_parquet(run_folder / "catalogue.parquet")
    ChangeLog.of(run_folder / "catalogue.parquet").append(Change(stock={"item-05": True}))
    assert "item-05" not in listed(now(source_of(run_folder)))


def test_one_merchants_endpoint_takes_its_own_items_only(run_folder: Path) -> None:
    """What another merchant adds is not here."""
    ChangeLog.of(run_folder / "catalogue.parquet").append(Change(added=[NEW, SECOND]))
    snapshot = now(source_of(run_folder, merchant_id="merchant-0"))
    assert snapshot.items.find(["new-1", "new-2"]).tolist() == [-1, 20]


def test_many_changes_make_a_new_base_with_the_same_items(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where changes pass the bound the folder is made anew; what is listed does not depend on it."""
    log = ChangeLog.of(run_folder / "catalogue.parquet")
    log.append(Change(added=[NEW, SECOND], removed=["item-03"], stock={"item-04": False}))
    log.append(Change(removed=["new-2", "item-09"], stock={"item-04": True, "item-05": False}))
    log.append(Change(added=[SECOND]))
    changed = now(source_of(run_folder))
    monkeypatch.setattr(catalogue_changes, "FEW", 5)
    rebased = now(source_of(run_folder))
    assert len(changed.items) == 62 and len(rebased.items) == 60
    assert set(listed(rebased)) == set(listed(changed))
    vector_of = {
        item_id: changed.index.vectors[changed.items.find([item_id])[0]] for item_id in listed(changed)
    }
    for item_id in listed(rebased):
        row = rebased.index.vectors[rebased.items.find([item_id])[0]]
        if item_id.startswith("item-"):
            np.testing.assert_array_equal(row, vector_of[item_id])
        else:  # how rare its words are depends a little on what was added with it
            cosine = row @ vector_of[item_id] / np.linalg.norm(row) / np.linalg.norm(vector_of[item_id])
            assert cosine > 0.95


def test_a_damaged_change_is_named(run_folder: Path) -> None:
    """The old snapshot goes on serving; the error says which file."""
    log = ChangeLog.of(run_folder / "catalogue.parquet")
    number = log.append(Change(removed=["item-01"]))
    next((run_folder / catalogue_changes.FOLDER).glob(f"*/{number:08}.json")).write_text("[")
    with pytest.raises(CatalogueError, match=r"00000001\.json cannot be read"):
        now(source_of(run_folder))


def test_promotions_are_part_of_the_state(run_folder: Path) -> None:
    """A new file of promotions is another state, and its rows are in the next snapshot."""
    source = source_of(run_folder)
    before = source.state()
    promotion = {"promotion_id": "p", "item_id": "item-01", "kind": "coupon", "text": "", "discount": 0.5}
    empty = {"least_quantity": None, "starts": None, "ends": None}
    pl.DataFrame([promotion | empty]).write_parquet(run_folder / "promotions.parquet")
    assert source.state() != before
    assert now(source).promotions.best(1, 0) is not None
