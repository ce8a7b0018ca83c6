"""`fedrank simulate --plan`: what a run would spend, before it spends anything."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.report_contract import UNPROTECTED
from fedrank.exits import BUDGET, DATA, FEDERATION
from privacy.ledger_place import ledger_at
from server.registry import Registry

Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("--rounds", "2", "--dim", "4", "--curve", "", "--minimum-cohort", "2", "--delta", "1e-3")


def plan_of(fedrank: Command, data: Path, out: Path, *words: str) -> dict[str, Any]:
    """Run `fedrank simulate --plan --json` and return its object."""
    done = fedrank("simulate", "--data", str(data), "--out", str(out), *SMALL, "--plan", "--json", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder with its bytes, but for the locks of SQLite's readers."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".db-shm"]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("participants", ["shoppers", "merchants"])
def test_the_plan_is_what_the_run_then_does(
    fedrank: Command, data: Path, tmp_path: Path, participants: str
) -> None:
    """Same stages, noise, norms and head; planning first makes no folder, and planning again sees the spending."""
    out, words = tmp_path / "run", ("--participants", participants)
    plan = plan_of(fedrank, data, out, *words, "--epsilon", "4")
    assert not out.exists()
    run = fedrank(
        "simulate", "--data", str(data), "--out", str(out), *SMALL, *words, "--epsilon", "4", "--json"
    )
    assert run.returncode == 0, run.stderr
    shared = ("stage", "releases", "clipping_norm", "noise_multiplier", "mu2")
    assert [{key: one[key] for key in shared} for one in plan["stages"]] == json.loads(run.stdout)["plan"]
    registry = Registry(out / "registry")
    card = registry.get(str(registry.promoted())).card
    assert [one["head_items"] for one in plan["stages"] if one["stage"] == "gram"] == [card["head_items"]]
    assert plan["spent_mu2"] == 0 and plan["total_epsilon"] == pytest.approx(4, abs=1e-6)
    assert_continues(fedrank, data, out, *words)


@pytest.mark.parametrize(
    ("trust", "cohort"), [((), 32), (("--trust", "distributed"), 32), (("--trust", "central"), 5)]
)
def test_without_a_minimum_cohort_noise_in_shares_is_calibrated_for_four_of_five_participants(
    fedrank: Command, data: Path, tmp_path: Path, trust: tuple[str, ...], cohort: int
) -> None:
    """32 of 40 devices by default; under the other trust models nothing hangs on it, and it is 5."""
    words = ("simulate", "--data", str(data), "--out", str(tmp_path / "run"), "--plan", "--json", *trust)
    done = fedrank(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["minimum_cohort"] == cohort


def assert_continues(fedrank: Command, data: Path, out: Path, *words: str) -> None:
    """A plan on the ledger of a run at epsilon 4 has the rest of 8 and touches no file of the run."""
    before = contents(out)
    statement = ledger_at(out / "ledger.db").statement()
    more = plan_of(fedrank, data, out, *words, "--epsilon", "8")
    assert more["spent_epsilon"] == pytest.approx(4, abs=1e-6)
    assert more["total_epsilon"] == pytest.approx(8, abs=1e-6)
    assert more["mu2"] + more["spent_mu2"] == pytest.approx(more["budget_mu2"])
    elsewhere = plan_of(
        fedrank, data, out.parent / "other", *words, "--epsilon", "8", "--ledger", str(out / "ledger.db")
    )
    assert elsewhere == more
    assert not (out.parent / "other").exists()
    used_up = fedrank(
        "simulate", "--data", str(data), "--out", str(out), *SMALL, *words, "--epsilon", "4", "--plan"
    )
    assert used_up.returncode == BUDGET and "used up" in used_up.stderr and used_up.stdout == ""
    assert ledger_at(out / "ledger.db").statement() == statement
    assert contents(out) == before


def test_shares_add_up_to_the_whole_and_every_stage_alone_costs_less(
    fedrank: Command, data: Path, tmp_path: Path
) -> None:
    """With merchants the linkage takes its share as well; epsilon of one stage is below that of all."""
    plan = plan_of(fedrank, data, tmp_path / "run", "--participants", "both", "--trust", "local")
    assert plan["stages"][0]["stage"] == "linkage"
    assert sum(one["share"] for one in plan["stages"]) == pytest.approx(1)
    assert all(0 < one["epsilon_alone"] < plan["total_epsilon"] for one in plan["stages"])
    assert sum(one["mu2"] for one in plan["stages"]) == pytest.approx(plan["mu2"])


def test_the_table_names_every_stage_and_says_that_nothing_was_charged(
    fedrank: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same figures for people."""
    monkeypatch.setenv("COLUMNS", "160")
    words = ("simulate", "--data", str(data), "--out", str(tmp_path / "run"), *SMALL, "--plan")
    shown = fedrank(*words).stdout
    stages = plan_of(fedrank, data, tmp_path / "run")["stages"]
    assert len(stages) >= 3
    for one in stages:
        assert one["stage"] in shown and f"{one['noise_multiplier']:.4g}" in shown
    assert "Nothing was charged" in shown and "40 shoppers" in shown
    assert UNPROTECTED in " ".join(fedrank(*words, "--trust", "none").stdout.split())


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--minimum-cohort", "41"), FEDERATION, "minimum cohort is 41"),
        (("--epsilon", "1e-9"), BUDGET, "too small"),
        (("--split", "given"), DATA, "no given test"),
    ],
)
def test_a_run_that_would_be_refused_has_no_plan(
    fedrank: Command, data: Path, tmp_path: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    """The same exit code and the same reason as the run itself."""
    out = tmp_path / "run"
    done = fedrank("simulate", "--data", str(data), "--out", str(out), *SMALL, "--plan", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr.splitlines()[-1]
    assert not out.exists()


def test_a_ledger_without_its_keys_is_refused_as_by_a_run(
    fedrank: Command, data: Path, tmp_path: Path
) -> None:
    """Its pseudonyms cannot be made again, so nobody can say what is left."""
    out = tmp_path / "run"
    out.mkdir()
    ledger_at(out / "ledger.db").close()
    shutil.rmtree(out / "keys", ignore_errors=True)
    done = fedrank("simulate", "--data", str(data), "--out", str(out), *SMALL, "--plan")
    assert done.returncode == DATA and "no folder keys" in done.stderr
    assert not (out / "keys").exists()


def test_a_ledger_on_a_database_server_is_looked_up_with_the_run_folders_keys(
    fedrank: Command, data: Path, tmp_path: Path, postgres_database: str
) -> None:
    """What a run spent there is taken off, and planning charges nothing there."""
    out, words = tmp_path / "run", ("--ledger", postgres_database, "--epsilon")
    assert plan_of(fedrank, data, out, *words, "4")["spent_mu2"] == 0
    run = fedrank("simulate", "--data", str(data), "--out", str(out), *SMALL, *words, "4", "--json")
    assert run.returncode == 0, run.stderr
    before = ledger_at(postgres_database, out / "keys").statement()
    assert plan_of(fedrank, data, out, *words, "8")["spent_epsilon"] == pytest.approx(4, abs=1e-6)
    assert ledger_at(postgres_database, out / "keys").statement() == before
