"""`fedrank bench`: figures beside their targets, as one object or as a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evaluation.bench import registry
from evaluation.bench.machine import machine
from evaluation.bench.registry import BENCHES, Bench, run_bench
from evaluation.bench.rows import Row
from evaluation.errors import ReportError, SettingsError
from evaluation.settings import Watch
from fedrank import cli
from fedrank.exits import USAGE

ROWS = [
    Row(measure="ours / theirs", value=240.0, unit="ratio", target=120.0),
    Row(measure="memory [peak]", value=7.5, unit="GiB", target=6.0, at_least=False),
    Row(measure="items", value=3706.0, unit="items"),
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Register a bench called `toy` that gives ROWS; the list fills with what the bench was told."""
    told: list[object] = []

    def run(*, quick: bool, watch: Watch) -> list[Row]:
        watch.begin("weighing", 2)
        watch.step()
        told.append(quick)
        return ROWS

    module = ModuleType("toy_bench")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_bench", module)
    monkeypatch.setitem(BENCHES, "toy", Bench(module="toy_bench", words="nothing"))
    return told


def bench(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `fedrank bench` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["fedrank", "bench", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return int(done.value.code or 0)


def test_a_target_is_met_from_its_own_side() -> None:
    """At least, or at most; the bound itself counts, and a figure without a target is neither."""
    assert [row.met for row in ROWS] == [True, False, None]
    assert Row(measure="a", value=4.4, unit="ratio", target=4.4, at_least=False).met is True
    assert Row(measure="a", value=120.0, unit="ratio", target=120.0).met is True


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_says_nothing_is_no_row(value: float) -> None:
    """Not a number and infinity would also be no JSON."""
    with pytest.raises(ReportError, match="'speed'"):
        Row(measure="speed", value=value, unit="ratio")


@pytest.mark.usefixtures("told")
def test_json_is_one_object_with_rows_seconds_and_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Standard output holds the object alone, progress goes to standard error, and --out keeps a copy."""
    assert bench(monkeypatch, "toy", "--json", "--out", str(tmp_path / "toy.json")) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert set(found) == {"bench", "rows", "seconds", "machine"}
    assert found["bench"] == "toy" and found["seconds"] >= 0
    assert found["rows"][1] == {
        "measure": "memory [peak]",
        "value": 7.5,
        "unit": "GiB",
        "target": 6.0,
        "met": False,
    }
    assert [row["met"] for row in found["rows"]] == [True, False, None]
    assert "weighing" in printed.err
    assert json.loads((tmp_path / "toy.json").read_text()) == found


def test_the_table_shows_every_figure_with_the_side_of_its_target(
    told: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missed target is a figure and no failure; --quick reaches the bench."""
    assert bench(monkeypatch, "toy", "--quick") == 0
    shown = capsys.readouterr().out
    for words in ("ours / theirs", ">= 120", "memory [peak]", "<= 6", "NO", "3,706", "(quick)", "python"):
        assert words in shown
    assert told == [True]


def test_an_unknown_bench_is_wrong_usage_and_the_known_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line."""
    assert bench(monkeypatch, "speeed") == USAGE
    words = capsys.readouterr().err.strip().splitlines()[-1]
    assert words.startswith("fedrank: ")
    assert all(name in words for name in ("speeed", "simulation", "accuracy"))


def test_a_place_that_is_not_there_is_refused_before_the_bench_runs(
    told: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hours of measuring are not lost at the last line."""
    assert bench(monkeypatch, "toy", "--out", str(tmp_path / "nowhere" / "toy.json")) == USAGE
    assert bench(monkeypatch, "toy", "--out", str(tmp_path)) == USAGE
    assert told == []


@pytest.mark.parametrize("rows", [[], [ROWS[0], ROWS[0]]])
def test_a_bench_without_rows_or_with_two_alike_is_refused(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader could not tell them apart."""
    module = ModuleType("odd_bench")
    module.run = lambda **_: rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_bench", module)
    monkeypatch.setitem(registry.BENCHES, "odd", Bench(module="odd_bench", words="nothing"))
    with pytest.raises(ReportError, match="'odd'"):
        run_bench("odd", quick=True, watch=Watch())


def test_the_registry_refuses_a_name_that_it_does_not_know() -> None:
    """For callers that are not the command."""
    with pytest.raises(SettingsError, match="simulation"):
        run_bench("nothing", quick=True, watch=Watch())


def test_the_machine_is_told_in_words_without_its_name_or_a_path() -> None:
    """A result can be published as it is."""
    found = machine()
    assert set(found) == {"cpu", "cores", "memory", "python", "torch", "numpy"}
    text = " ".join(found.values())
    assert os.uname().nodename not in text
    assert str(Path.home()) not in text and not any(word.startswith("/") for word in text.split())


def test_help_names_every_bench_and_loads_none() -> None:
    """The help answers in a moment: a bench and what it needs are imported when it runs."""
    script = "import sys, atexit; sys.argv = ['fedrank', 'bench', '--help']; "
    script += "heavy = ('torch', 'numpy', 'scipy', 'polars', 'flwr', 'evaluation.bench.simulation'); "
    script += "atexit.register(lambda: print([name for name in heavy if name in sys.modules])); "
    script += "from fedrank.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.stdout.splitlines()[-1] == "[]"
    shown = " ".join(done.stdout.replace("│", " ").split())
    assert all(f"{name}: {one.words}" in shown for name, one in BENCHES.items())
