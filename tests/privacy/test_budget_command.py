"""`fedrank privacy budget` shows what the ledger holds, in words and as one JSON object, or one clear error."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fedrank.commands.privacy import app
from privacy.accountant import delta_of
from privacy.errors import DatabaseMissing
from privacy.ledger import Ledger
from privacy.ledger_records import Charge

_SUBJECTS = [f"{number:032x}" for number in range(3)]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder whose ledger holds two rounds of the devices and one release of a merchant."""
    ledger = Ledger.open(tmp_path / "ledger.db")
    for round_number in (1, 2):
        ledger.reserve(_charge(f"r{round_number}", "devices", round_number, 0.25), _SUBJECTS, 4.0)
    ledger.reserve(_charge("r3", "shop-1", 1, 0.125), _SUBJECTS[:1], 4.0)
    ledger.commit("r1", "devices")
    ledger.close()
    (tmp_path / "report.json").write_text(json.dumps({"privacy": {"delta": 1e-5}}))
    return tmp_path


def _charge(release_id: str, holder: str, round_number: int, mu2: float) -> Charge:
    return Charge(
        release_id=release_id,
        holder=holder,
        stage="gradient",
        round=round_number,
        noise_multiplier=2.0,
        clipping_norm=1.5,
        mu2=mu2,
    )


def _budget(*words: str) -> Result:
    # A wide terminal, so that no table is cut.
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["budget", *words])


def _json(*words: str) -> dict[str, Any]:
    result = _budget(*words, "--json")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_a_run_is_reported_with_its_own_delta(run_folder: Path) -> None:
    """Each holder's highest spending is priced at the delta of the run's report; every charge is listed."""
    report = _json("--run", str(run_folder), "--epsilon", "8")
    assert (report["delta"], report["granted_epsilon"]) == (1e-5, 8.0)
    devices, shop = report["holders"]
    assert (devices["holder"], devices["shoppers"], devices["highest_mu2"]) == ("devices", 3, 0.5)
    assert delta_of(math.sqrt(0.5), devices["epsilon"]) == pytest.approx(1e-5)
    assert devices["remaining_epsilon"] == pytest.approx(8 - devices["epsilon"])
    assert [(one["round"], one["state"]) for one in devices["charges"]] == [(1, "committed"), (2, "reserved")]
    assert [one["noise_multiplier"] for one in shop["charges"]] == [2.0]
    assert shop["epsilon"] < devices["epsilon"]


def test_a_ledger_can_be_named_by_path_or_url_and_narrowed_to_a_merchant(run_folder: Path) -> None:
    """--ledger takes both, --delta states the delta, --merchant leaves one holder, and an overdraft is zero."""
    path = run_folder / "ledger.db"
    for place in (str(path), f"sqlite:///{path}"):
        words = ("--ledger", place, "--delta", "1e-6", "--merchant", "shop-1", "--epsilon", "0.5")
        report = _json(*words)
        (shop,) = report["holders"]
        assert shop["holder"] == "shop-1"
        assert shop["epsilon"] > 0.5
        assert shop["remaining_epsilon"] == 0.0


def test_the_report_in_words_gathers_rounds_that_differ_in_nothing_else(run_folder: Path) -> None:
    """People read holders, epsilon and what is left; without --epsilon nothing is said to be left."""
    Ledger.open(run_folder / "ledger.db").commit("r2", "devices")
    result = _budget("--run", str(run_folder), "--epsilon", "8")
    assert result.exit_code == 0, result.output
    assert "1-2 (2)" in result.stdout
    assert "of 8" in result.stdout
    assert "committed" in result.stdout
    assert "of 8" not in _budget("--run", str(run_folder)).stdout


def test_an_empty_ledger_says_that_nothing_was_spent(tmp_path: Path) -> None:
    """No charges is an answer, not an error."""
    Ledger.open(tmp_path / "ledger.db").close()
    words = ("--ledger", str(tmp_path / "ledger.db"), "--delta", "1e-6")
    assert "Nothing has been spent" in _budget(*words).stdout
    assert _json(*words)["holders"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "either --ledger"),
        (("--ledger", "x.db", "--run", "y"), "either --ledger"),
        (("--ledger", "x.db"), "--delta"),
        (("--run", "no-such-run"), "no ledger in"),
    ],
)
def test_a_question_that_cannot_be_answered_says_what_to_give(words: tuple[str, ...], message: str) -> None:
    """Missing or contradicting options end with the usage exit code and name what is needed."""
    result = _budget(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_a_run_without_a_report_asks_for_the_delta(run_folder: Path) -> None:
    """A run that was cut off has a ledger and no report: the delta must then be given."""
    (run_folder / "report.json").unlink()
    assert _budget("--run", str(run_folder)).exit_code == 2
    assert _json("--run", str(run_folder), "--delta", "1e-5")["delta"] == 1e-5


def test_a_missing_ledger_is_never_answered_with_an_empty_one(tmp_path: Path) -> None:
    """A wrong path is an error and no file appears there."""
    result = _budget("--ledger", str(tmp_path / "wrong.db"), "--delta", "1e-6")
    assert isinstance(result.exception, DatabaseMissing)
    assert list(tmp_path.iterdir()) == []
