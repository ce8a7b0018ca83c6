"""`fedrank models`: what a run holds, what its segments are, and promoting one as a separate act."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evaluation.releasing import signing_registry
from fedrank.exits import DATA, USAGE
from model.content import CONTENT_FEATURES
from model.schema import Schema
from server.registry import Registry

Command = Callable[..., subprocess.CompletedProcess[str]]
ITEMS = 60


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two versions over 60 items, of which none is promoted; a category steers terminals."""
    rows = range(ITEMS)
    table = {
        "item_id": [f"item-{row:02d}" for row in rows],
        "title": [f"thing {row}" for row in rows],
        "category": ["tea\x1b[31m" for _ in rows],
        "brand": ["b" for _ in rows],
        "price": [1.5 for _ in rows],
        "description": pl.Series([None] * ITEMS, dtype=pl.String),
        "merchant_id": [f"merchant-{row % 2}" for row in rows],
    }
    pl.DataFrame(table).write_parquet(tmp_path / "catalogue.parquet")
    schema = Schema(items=ITEMS, content_features=CONTENT_FEATURES, dim=8)
    generator = np.random.default_rng(7)
    for epsilon in (8.0, None):
        weights = {
            name: generator.normal(0, 0.5, shape).astype(np.float32)
            for name, shape in schema.shapes().items()
        }
        card = {
            "schema": {"items": ITEMS, "dim": 8},
            "privacy": {"epsilon": epsilon, "delta": 1e-6, "unit": "shopper"},
        }
        registry, signer = signing_registry(tmp_path, "toy")
        registry.add(weights, card, signer)
    return tmp_path


def test_versions_are_listed_and_promoted_and_the_endpoint_takes_what_is(fedrank: Command, run: Path) -> None:
    """Nothing is promoted by itself; the list says which is; a promotion back is the same command."""
    registry = Registry(run / "registry")
    first, second = registry.versions()
    listed = json.loads(fedrank("models", "list", "--run", str(run), "--json").stdout)
    assert listed["promoted"] is None
    assert {one["version"]: one["privacy"]["epsilon"] for one in listed["versions"]}.keys() == {first, second}
    assert "`fedrank promote " in fedrank("models", "list", "--run", str(run)).stderr
    for words, version, before in ((("models", "promote"), second, None), (("promote",), first, second)):
        done = fedrank(*words, "--run", str(run), version, "--json")
        assert json.loads(done.stdout) == {"promoted": version, "before": before}
        assert registry.promoted() == version
    table = fedrank("models", "list", "--run", str(run)).stdout
    assert [line.endswith("promoted") for line in table.splitlines()] == [True, False]
    assert "epsilon 8 delta 1e-06" in table
    assert "no privacy" in table


def test_a_version_is_shown_with_its_segments_by_number_name_and_size(fedrank: Command, run: Path) -> None:
    """What a request may name as segment; of one merchant too; for people without control sequences."""
    version = Registry(run / "registry").versions()[0]
    fedrank("models", "promote", "--run", str(run), version)
    shown = json.loads(fedrank("models", "show", "--run", str(run), "--json").stdout)
    assert (shown["version"], shown["promoted"], shown["card"]["schema"]["dim"]) == (version, True, 8)
    segments = shown["segments"]
    assert [one["number"] for one in segments] == list(range(len(segments)))
    assert sum(one["items"] for one in segments) == ITEMS
    assert [one["items"] for one in segments] == sorted((one["items"] for one in segments), reverse=True)
    own = fedrank("models", "show", "--run", str(run), version, "--merchant", "merchant-1", "--json")
    assert sum(one["items"] for one in json.loads(own.stdout)["segments"]) == ITEMS // 2
    for_people = fedrank("models", "show", "--run", str(run)).stdout
    assert "tea\\u001b[31m" in for_people
    assert "\x1b" not in for_people


def test_an_unknown_version_changes_nothing(fedrank: Command, run: Path) -> None:
    """Exit code 3, and the next step; what was promoted stays."""
    registry = Registry(run / "registry")
    registry.promote(registry.versions()[0])
    for words in (("promote", "0" * 16), ("promote", "../../etc"), ("show", "0" * 16)):
        done = fedrank("models", words[0], "--run", str(run), words[1])
        assert (done.returncode, done.stdout) == (DATA, "")
        assert "see `fedrank models list`" in done.stderr
    assert registry.promoted() == registry.versions()[0]


def test_a_damaged_version_is_listed_and_not_promoted(fedrank: Command, run: Path) -> None:
    """The others can still be seen."""
    version = Registry(run / "registry").versions()[0]
    (run / "registry" / "versions" / version / "card.json").write_text("{")
    listed = json.loads(fedrank("models", "list", "--run", str(run), "--json").stdout)
    assert {one["version"]: one["privacy"] for one in listed["versions"]}[version] is None
    done = fedrank("models", "promote", "--run", str(run), version)
    assert done.returncode == DATA
    assert Registry(run / "registry").promoted() is None


def test_a_folder_without_versions_and_a_missing_one_are_told_apart(fedrank: Command, tmp_path: Path) -> None:
    """Exit code 3 with what folder is wanted; 2 where there is none."""
    empty = fedrank("models", "list", "--run", str(tmp_path))
    assert empty.returncode == DATA
    assert "holds no model version; give the --out folder" in empty.stderr
    assert fedrank("models", "list", "--run", str(tmp_path / "none")).returncode == USAGE


def test_serving_without_a_promoted_version_names_the_command(fedrank: Command, run: Path) -> None:
    """The message can be followed as it stands."""
    done = fedrank("index", "build", "--run", str(run))
    assert done.returncode == DATA
    assert f"fedrank promote --run {run} VERSION" in done.stderr


def test_an_unsigned_version_is_refused_by_every_command_that_would_use_it(
    fedrank: Command, run: Path
) -> None:
    """As one of an older run folder is; the error names what to do, and --unsigned does it and says so."""
    version = Registry(run / "registry").versions()[0]
    (run / "registry" / "versions" / version / "signature.json").unlink()
    listed = fedrank("models", "list", "--run", str(run)).stdout.splitlines()
    assert [line.split()[0] for line in listed if "not signed" in line] == [version]
    for words in (("promote",), ("models", "promote"), ("models", "show")):
        done = fedrank(*words, "--run", str(run), version)
        assert (done.returncode, done.stdout) == (DATA, "")
        assert "is not signed" in done.stderr
        assert "fedrank simulate" in done.stderr and "--unsigned" in done.stderr
    assert Registry(run / "registry").promoted() is None
    done = fedrank("promote", "--run", str(run), version, "--unsigned")
    assert done.stdout == f"promoted {version}, where none was (unsigned versions are taken)\n"
    for command in (("index", "build"), ("serve", "--port", "0"), ("rollback",)):
        assert fedrank(*command, "--run", str(run)).returncode == DATA
    assert fedrank("index", "build", "--run", str(run), "--unsigned").returncode == 0


def test_a_rollback_serves_what_was_served_before_and_not_what_was_rolled_back(
    fedrank: Command, run: Path
) -> None:
    """Back along the promotions, and no further than the first."""
    first, second = Registry(run / "registry").versions()
    nothing = fedrank("rollback", "--run", str(run))
    assert nothing.returncode == DATA and "has promoted nothing yet" in nothing.stderr
    for version in (first, second):
        fedrank("promote", "--run", str(run), version)
    done = fedrank("rollback", "--run", str(run), "--json")
    assert json.loads(done.stdout) == {"promoted": first, "before": second}
    done = fedrank("rollback", "--run", str(run))
    assert (done.returncode, done.stdout) == (DATA, "")
    assert "fedrank promote VERSION" in done.stderr
    assert Registry(run / "registry").promoted() == first
