"""A catalogue is edited from the command line while an engine serves it; the log keeps every edit, in order."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedrank.cli import app
from server.errors import CatalogueError
from server.registry import Registry
from server.serving.catalogue import read_catalogue
from server.serving.catalogue_changes import Change, ChangeLog, folded
from server.serving.catalogue_edits import CatalogueEdits
from server.serving.catalogue_files import read_items
from server.serving.engine import Engine
from server.serving.query import PastEvent, RankQuery, Surface
from server.serving.snapshot_source import FOLDER

IDS = st.sampled_from("abcdef")
ENTRIES = st.one_of(
    st.lists(IDS, min_size=1, unique=True).map(lambda ids: Change(added=[_item(item_id) for item_id in ids])),
    st.lists(IDS, min_size=1).map(lambda ids: Change(removed=ids)),
    st.dictionaries(IDS, st.booleans(), min_size=1).map(lambda stock: Change(stock=stock)),
)


def _item(item_id: str) -> dict[str, Any]:
    return {"item_id": item_id, "merchant_id": "shop", "title": item_id}


def fedrank(*words: object) -> Any:
    """What a command prints as JSON; fails with its output unless it ends well."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def listed(engine: Engine, **asked: Any) -> set[str]:
    """What surface home, or the one asked for, lists of the whole catalogue."""
    query = RankQuery(**{"surface": Surface.HOME, "k": 200, "timestamp": 1_700_000_000, **asked})
    return {item.item_id for item in engine.rank([query])[0].listed()}


def refused(words: str, run: Path, *command: object) -> None:
    """A command that must end with an error of these words, and change nothing."""
    before = ChangeLog.of(run / "catalogue.parquet").last()
    done = CliRunner().invoke(app, [*map(str, command), "--run", str(run)])
    assert isinstance(done.exception, CatalogueError) and words in str(done.exception), done.output
    assert ChangeLog.of(run / "catalogue.parquet").last() == before


def there_after(changes: Sequence[Change], base: Collection[str]) -> dict[str, bool]:
    """What is there and whether it is in stock, by a plain dictionary; an item that comes again is in stock."""
    there = dict.fromkeys(sorted(base), True)
    for change in changes:
        for item_id in change.removed:
            there.pop(item_id, None)
        there |= {row["item_id"]: True for row in change.added}
        there |= {item_id: known for item_id, known in change.stock.items() if item_id in there}
    return there


@given(st.lists(ENTRIES, max_size=12), st.sets(IDS))
def test_folded_changes_are_what_one_by_one_would_give(changes: list[Change], base: set[str]) -> None:
    """Against a plain dictionary; each item has one row."""
    table = pl.DataFrame(
        [_item(item_id) for item_id in sorted(base)], schema=dict.fromkeys(_item(""), pl.String)
    )
    together = folded(changes)
    after, there = together.applied(table), there_after(changes, base)
    assert dict(zip(after["item_id"], after["in_stock"].fill_null(True), strict=True)) == there
    assert after.height == len(there)
    assert together.ids_of(base) == set(there)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ENTRIES, min_size=1, max_size=6), st.sets(IDS, min_size=1))
def test_an_id_is_that_of_the_item_that_is_there_whatever_came_and_went(
    run_folder: Path, changes: list[Change], barred: set[str]
) -> None:
    """`find` gives the row that can be listed, and none is listed that is hidden, bought or looked at."""
    catalogue = read_catalogue(run_folder / "catalogue.parquet").table
    if "a" not in catalogue["item_id"]:  # some ids of the changes are old items
        renamed = pl.col("item_id").replace({"item-00": "a", "item-01": "b"})
        catalogue.with_columns(renamed).write_parquet(run_folder / "catalogue.parquet")
    shutil.rmtree(run_folder / "catalogue-changes", ignore_errors=True)
    log = ChangeLog.of(run_folder / "catalogue.parquet")
    for change in changes:
        log.append(change)
    engine = Engine.load(Registry(run_folder / "registry"), run_folder / "catalogue.parquet")
    items, there = engine.snapshot.items, there_after(changes, {"a", "b", *catalogue["item_id"][2:]})
    rows = items.find(sorted(there))
    assert [items.item_id(row) for row in rows.tolist()] == sorted(there)
    assert items.servable[rows].tolist() == [there[item_id] for item_id in sorted(there)]
    offered = {item_id for item_id, in_stock in there.items() if in_stock}
    assert listed(engine) == offered
    assert listed(engine, hidden=sorted(barred)) == offered - barred
    bought = [PastEvent(item_id=item_id, kind="purchase", time=1) for item_id in sorted(barred)]
    assert listed(engine, history=bought) == offered - barred
    for item_id in sorted(barred & set(there)):
        assert item_id not in listed(engine, surface=Surface.DETAIL, item_id=item_id)


def test_entries_of_many_writers_are_all_kept(tmp_path: Path) -> None:
    """Each gets a number of its own, without a gap."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        numbers = pool.starmap(_append, [(tmp_path, writer) for writer in range(20)])
    assert sorted(numbers) == list(range(1, 21))
    removed = [change.removed[0] for change in ChangeLog(tmp_path).read(0, 20)]
    assert sorted(removed) == sorted(f"item-{writer}" for writer in range(20))


def _append(run: Path, writer: int) -> int:
    return ChangeLog(run).append(Change(removed=[f"item-{writer}"]))


def test_of_two_who_add_one_item_at_once_the_second_is_refused(run_folder: Path) -> None:
    """Whoever looked before the other wrote; an item would else be there twice over. Nothing is written then."""
    (run_folder / "new.csv").write_text("item_id,merchant_id\nnew-1,merchant-1\n")
    first, second = CatalogueEdits(run_folder), CatalogueEdits(run_folder)
    assert first.add(run_folder / "new.csv") == 1
    with pytest.raises(CatalogueError, match=r"'new-1' of new\.csv are in the catalogue already"):
        second.add(run_folder / "new.csv")
    assert second.stock(["new-1"], there=False) == 2
    first.remove(["new-1"])
    with pytest.raises(CatalogueError, match="'new-1' are not in the catalogue of 60 items"):
        second.remove(["new-1"])


def test_a_writer_who_was_overtaken_checks_again(tmp_path: Path) -> None:
    """Another entry came between check and writing; the next check sees it, and its error leaves nothing behind."""
    log, asked = ChangeLog(tmp_path), list[int]()

    def check(last: int) -> None:
        asked.append(last)
        if last == 0:
            log.append(Change(removed=["a"]))
        if last == 2:
            raise CatalogueError("no more")

    assert log.append(Change(removed=["b"]), check) == 2
    assert asked == [0, 1]
    with pytest.raises(CatalogueError, match="no more"):
        log.append(Change(removed=["c"]), check)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.json", "00000002.json"]


def test_a_running_engine_takes_what_the_command_line_says(run_folder: Path) -> None:
    """Items come, go out of stock and back, and go for good; promotions are replaced. Nothing is restarted."""
    engine = Engine.load(Registry(run_folder / "registry"), run_folder / "catalogue.parquet")
    before = listed(engine)
    assert engine.refresh() is False
    new = run_folder / "new.csv"
    new.write_text("item_id,merchant_id,title,price\nnew-1,merchant-1,jade tea,2.5\nnew-2,merchant-1,,\n")
    steps: list[tuple[tuple[object, ...], set[str]]] = [
        (("add", new), before | {"new-1", "new-2"}),
        (("stock", "new-1", "item-04", "--out"), before - {"item-04"} | {"new-2"}),
        (("stock", "new-1", "--in"), before - {"item-04"} | {"new-1", "new-2"}),
        (("remove", "new-2", "item-05"), before - {"item-04", "item-05"} | {"new-1"}),
    ]
    for number, (command, expected) in enumerate(steps, start=1):
        assert fedrank("catalogue", *command, "--run", run_folder) == {"change": number}
        assert engine.refresh() is True
        assert listed(engine) == expected
    rows = [
        {"promotion_id": "p", "item_id": item, "kind": "coupon", "discount": 0.5}
        for item in ("new-1", "none")
    ]
    absent = {"text": None, "least_quantity": None, "starts": None, "ends": None}
    pl.DataFrame([row | absent for row in rows]).write_parquet(run_folder / "offers.parquet")
    told = fedrank("catalogue", "promotions", run_folder / "offers.parquet", "--run", run_folder)
    assert told == {"promotions": 1}
    assert engine.refresh() is True
    snapshot = engine.snapshot
    assert snapshot.promotions.best(int(snapshot.items.find(["new-1"])[0]), 0) is not None


def test_edits_that_cannot_be_meant_are_refused(run_folder: Path, tmp_path: Path) -> None:
    """Known ids to add, unknown ones to remove, files that are no items: each error says the next step."""
    file = tmp_path / "items.csv"
    refused(
        "'none' are not in the catalogue of 60 items", run_folder, "catalogue", "remove", "none", "item-01"
    )
    refused("and 1 more are not", run_folder, "catalogue", "stock", *"wxyz", "--out")
    for text, words in {
        "item_id,merchant_id\nitem-01,m\n": "'item-01' of items.csv are in the catalogue already",
        "item_id,merchant_id\nnew,m\nnew,m\n": "one row per item",
        "item_id,merchant_id\nnew,\n": "items without merchant_id",
        "item_id\nnew\n": "items without merchant_id",
        'item_id,merchant_id\n" ",m\n': "items without item_id",
        "item_id,merchant_id\n": "holds no item",
        "": "cannot be read as items",
    }.items():
        file.write_text(text)
        refused(words, run_folder, "catalogue", "add", file)
    refused("is not there", run_folder, "catalogue", "promotions", tmp_path / "none.parquet")


def test_a_csv_file_is_taken_as_it_is_written(run_folder: Path) -> None:
    """Ids and titles keep their zeros; numbers and flags are read, and what is empty is unknown."""
    (run_folder / "new.csv").write_text(
        "item_id,merchant_id,title,price,listed_at,promotion,hidden\n"
        "007,0012,1984, 2.50 ,1700000000,TRUE,0\n1e5,true,,,,,\n"
    )
    CatalogueEdits(run_folder).add(run_folder / "new.csv")
    (change,) = ChangeLog.of(run_folder / "catalogue.parquet").read(0, 1)
    known = {"title": "1984", "price": 2.5, "listed_at": 1_700_000_000, "promotion": True, "hidden": False}
    assert change.added == [
        {"item_id": "007", "merchant_id": "0012", **known},
        {"item_id": "1e5", "merchant_id": "true", **dict.fromkeys(known)},
    ]
    engine = Engine.load(Registry(run_folder / "registry"), run_folder / "catalogue.parquet")
    assert {"007", "1e5"} <= listed(engine) and "7" not in listed(engine)


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("price", "2,50", "a number such as 2.50"),
        ("price", "inf", "a number"),
        ("listed_at", "2024-01-01", "Unix seconds"),
        ("in_stock", "maybe", "true or false"),
    ],
)
def test_a_value_of_another_form_is_named(run_folder: Path, name: str, value: str, form: str) -> None:
    """With its item, its column and what to give instead; nothing is added."""
    file = run_folder / "new.csv"
    file.write_text(f'item_id,merchant_id,{name}\nnew-1,m,\n007,m,"{value}"\n')
    words = f"{name} of item '007' is '{value}', one of 1 that cannot be read; give "
    refused(words, run_folder, "catalogue", "add", file)
    refused(form, run_folder, "catalogue", "add", file)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"{'x' * 257},m,1", "row 1 has an item_id above 256 characters"),
        ("new-2,m,-5", "row 1 has a price that is negative"),
    ],
)
def test_an_item_that_no_request_could_name_or_without_a_real_price_is_refused(
    tmp_path: Path, row: str, problem: str
) -> None:
    """The file, the row and the bound are named."""
    file = tmp_path / "items.csv"
    file.write_text(f"item_id,merchant_id,price\n{'y' * 256},m,\n{row}\n")
    with pytest.raises(CatalogueError, match=problem):
        read_items(file)


def test_times_of_a_parquet_file_may_be_dates(run_folder: Path) -> None:
    """They are kept in Unix seconds, as those of the catalogue are."""
    row = {"item_id": 7, "merchant_id": "m", "listed_at": datetime(2023, 11, 14, 22, 13, 20)}
    pl.DataFrame([row]).write_parquet(run_folder / "new.parquet")
    CatalogueEdits(run_folder).add(run_folder / "new.parquet")
    (change,) = ChangeLog.of(run_folder / "catalogue.parquet").read(0, 1)
    assert change.added == [{"item_id": "7", "merchant_id": "m", "listed_at": 1_700_000_000}]


def test_an_item_that_went_may_come_again(run_folder: Path) -> None:
    """Removing makes room for the id."""
    CatalogueEdits(run_folder).remove(["item-01"])
    with pytest.raises(CatalogueError, match="not in the catalogue"):
        CatalogueEdits(run_folder).remove(["item-01"])
    row = read_catalogue(run_folder / "catalogue.parquet").table.filter(pl.col("item_id") == "item-01")
    row.write_parquet(run_folder / "again.parquet")
    assert CatalogueEdits(run_folder).add(run_folder / "again.parquet") == 2


def test_index_build_prepares_and_check_looks(run_folder: Path) -> None:
    """The folder that serve opens is there after build; check finds a flipped byte and says so by its exit code."""
    built = fedrank("index", "build", "--run", run_folder)
    assert (built["items"], built["exact"]) == (60, True)
    (name,) = fedrank("index", "check", "--run", run_folder)["folders"]
    file = run_folder / FOLDER / name / "vectors.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    done = CliRunner().invoke(app, ["index", "check", "--run", str(run_folder)])
    assert done.exit_code == 3 and "NOT WHOLE" in done.stdout
