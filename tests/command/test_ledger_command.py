"""A run folder whose ledger went missing or back: every command refuses it in one line, and no budget comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fedrank.exits import BUDGET, USAGE
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge

Command = Callable[..., subprocess.CompletedProcess[str]]
FEDRANK = Path(sys.executable).parent / "fedrank"
SMALL = ("--rounds", "0", "--dim", "4", "--curve", "", "--minimum-cohort", "2", "--delta", "1e-3", "--json")


@pytest.fixture(scope="module")
def first_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run at epsilon 4, made in a process of its own, so that no file stays open."""
    out = tmp_path_factory.mktemp("runs") / "run"
    command = [str(FEDRANK), "simulate", "--data", str(data), "--out", str(out), *SMALL, "--epsilon", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=out.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture
def run(first_run: Path, tmp_path: Path) -> Path:
    """A copy of that folder for one test."""
    return Path(shutil.copytree(first_run, tmp_path / "run"))


def spend(run: Path) -> None:
    """Charge one more release to one shopper."""
    more = Charge(
        release_id="one/more",
        holder="devices",
        stage="gradient",
        round=9,
        noise_multiplier=4.0,
        clipping_norm=1.0,
        mu2=0.0625,
    )
    with closing(ledger_at(run / "ledger.db")) as ledger:
        ledger.reserve(more, list(ledger.spent_by_subject("devices"))[:1], 100.0)


def assert_no_budget(fedrank: Command, data: Path, out: Path, words: str) -> None:
    """A run and its plan are refused in one line, and the run folder still serves what it served."""
    served = (out / "registry" / "promoted").read_text()
    simulate = ("simulate", "--data", str(data), "--out", str(out), *SMALL, "--epsilon", "8")
    for command in (simulate, (*simulate, "--plan")):
        done = fedrank(*command)
        assert done.returncode == BUDGET
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert (out / "registry" / "promoted").read_text() == served


def test_a_deleted_ledger_gives_no_fresh_budget(fedrank: Command, data: Path, run: Path) -> None:
    """The keys in the run folder remember it; what can be done stands in the line."""
    (run / "ledger.db").unlink()
    assert_no_budget(fedrank, data, run, "restore its newest backup, or start a new federation")
    assert not (run / "ledger.db").exists()
    assert fedrank("privacy", "budget", "--run", str(run)).returncode == USAGE


def test_an_old_copy_of_the_ledger_gives_no_fresh_budget(fedrank: Command, data: Path, run: Path) -> None:
    """Copied aside, charged, copied back: refused. The newest copy is accepted again."""
    shutil.copy(run / "ledger.db", run / "old.db")
    spend(run)
    shutil.copy(run / "ledger.db", run / "newest.db")
    shutil.copy(run / "old.db", run / "ledger.db")
    assert_no_budget(fedrank, data, run, "it is an older copy")
    assert fedrank("privacy", "budget", "--run", str(run)).returncode == BUDGET
    (run / "newest.db").replace(run / "ledger.db")
    done = fedrank("privacy", "budget", "--run", str(run), "--json")
    assert json.loads(done.stdout)["holders"][0]["epsilon"] > 4


def test_a_run_without_noise_leaves_an_old_account_as_it_was(fedrank: Command, data: Path, run: Path) -> None:
    """It charges nothing, and afterwards the account goes on."""
    with closing(ledger_at(run / "ledger.db")) as ledger:
        before = ledger.charges()
    unprotected = fedrank("simulate", "--data", str(data), "--out", str(run), *SMALL, "--trust", "none")
    assert unprotected.returncode == 0, unprotected.stderr[-2000:]
    with closing(ledger_at(run / "ledger.db")) as ledger:
        assert ledger.charges() == before
    spend(run)
