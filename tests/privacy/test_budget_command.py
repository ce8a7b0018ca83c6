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
from privacy.errors import KeyringError, LedgerError, LedgerRolledBack
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge

_SUBJECTS = [f"{number:032x}" for number in range(3)]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder whose ledger holds two rounds of the devices and one release of a merchant."""
    ledger = ledger_at(tmp_path / "ledger.db")
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


def _quota(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["quota", *words])


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
    ledger_at(run_folder / "ledger.db").commit("r2", "devices")
    result = _budget("--run", str(run_folder), "--epsilon", "8")
    assert result.exit_code == 0, result.output
    assert "1-2 (2)" in result.stdout
    assert "of 8" in result.stdout
    assert "committed" in result.stdout
    assert "of 8" not in _budget("--run", str(run_folder)).stdout


def test_an_empty_ledger_says_that_nothing_was_spent(tmp_path: Path) -> None:
    """No charges is an answer, not an error."""
    ledger_at(tmp_path / "ledger.db").close()
    words = ("--ledger", str(tmp_path / "ledger.db"), "--delta", "1e-6")
    assert "Nothing has been spent" in _budget(*words).stdout
    assert _json(*words)["holders"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--run RUN_FOLDER, or --ledger"),
        (("--ledger", "x.db"), "--delta"),
        (("--ledger", "x.db", "--delta", "1e-6"), "no database file"),
        (("--run", "no-such-run"), "no run folder"),
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
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_quota_is_set_shown_and_removed(run_folder: Path) -> None:
    """The quota is an epsilon at the run's delta; what the merchant's releases cost before counts."""
    where = ("--run", str(run_folder))
    words = _quota("shop-1", "--epsilon", "2", *where)
    assert words.exit_code == 0, words.output
    assert "All releases of shop-1 may cost epsilon 2 at delta 1e-05 together" in words.stdout
    devices, shop = _json(*where)["holders"]
    assert devices["quota"] is None
    assert shop["quota"]["epsilon"] == pytest.approx(2, abs=1e-6)
    assert shop["quota"]["spent_mu2"] == 0.125
    assert shop["quota"]["left_epsilon"] == pytest.approx(2 - shop["quota"]["spent_epsilon"], abs=1e-6)
    assert "of 2" in _budget(*where).stdout
    assert "no quota any more" in _quota("shop-1", "--remove", *where).stdout
    assert "had none" in _quota("shop-1", "--remove", *where).stdout
    assert _json(*where)["holders"][1]["quota"] is None


def test_a_merchant_with_a_quota_and_no_release_yet_is_shown(run_folder: Path) -> None:
    """A quota may come before the first release; the answer as JSON is one object."""
    where = ("--run", str(run_folder))
    found = json.loads(_quota("shop-7", "--epsilon", "1", "--delta", "1e-6", "--json", *where).stdout)
    assert (found["merchant"], found["delta"], found["quota"]["spent_mu2"]) == ("shop-7", 1e-6, 0.0)
    assert [one["holder"] for one in _json(*where)["holders"]] == ["devices", "shop-1", "shop-7"]


@pytest.mark.parametrize("words", [(), ("--epsilon", "1", "--remove")])
def test_a_quota_needs_a_size_or_its_removal(run_folder: Path, words: tuple[str, ...]) -> None:
    """Neither or both is wrong usage, and nothing is changed."""
    result = _quota("shop-1", *words, "--run", str(run_folder))
    assert result.exit_code == 2
    assert "--remove" in result.output
    assert _json("--run", str(run_folder))["holders"][1]["quota"] is None


def test_a_ledger_that_went_back_is_not_read(run_folder: Path) -> None:
    """What an old backup says was spent would be too little; the keyring in the run folder tells."""
    place = run_folder / "ledger.db"
    old = place.read_bytes()
    ledger = ledger_at(place)
    ledger.reserve(_charge("r9", "devices", 9, 0.25), _SUBJECTS, 4.0)
    ledger.close()
    place.write_bytes(old)
    assert isinstance(_budget("--run", str(run_folder)).exception, LedgerRolledBack)


def test_the_keys_of_a_ledger_can_lie_elsewhere(run_folder: Path) -> None:
    """--keys names them; a ledger whose keys nobody names and that has none beside it is refused."""
    elsewhere = run_folder / "elsewhere"
    (run_folder / "keys").rename(elsewhere)
    place = ("--ledger", str(run_folder / "ledger.db"), "--delta", "1e-6")
    assert len(_json(*place, "--keys", str(elsewhere))["holders"]) == 2
    assert isinstance(_budget(*place).exception, KeyringError)
    assert isinstance(
        _budget("--ledger", "postgresql://me@host/name", "--delta", "1e-6").exception, LedgerError
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ("--epsilon", "nan"),
        ("--epsilon", "inf"),
        ("--epsilon", "0"),
        ("--delta", "0"),
        ("--delta", "2"),
        ("--delta", "nan"),
    ],
)
def test_an_epsilon_or_delta_that_means_nothing_is_wrong_usage(
    run_folder: Path, wrong: tuple[str, str]
) -> None:
    """Neither report nor quota is made of it, and no NaN gets into the JSON."""
    options = {"--epsilon": "8", "--delta": "1e-6"} | dict([wrong])
    words = ("--run", str(run_folder), "--json", *(word for pair in options.items() for word in pair))
    for result in (_budget(*words), _quota("shop-1", *words)):
        assert (result.exit_code, result.stdout) == (2, "")
    assert _json("--run", str(run_folder))["holders"][1]["quota"] is None


def test_a_holder_that_the_ledger_does_not_know_is_warned_of(run_folder: Path) -> None:
    """A wrong name could be taken for a merchant that has spent nothing, or whose quota holds."""
    words = ("--run", str(run_folder), "--json")
    for result in (_budget("--merchant", "shop-9", *words), _quota("shop-9", "--epsilon", "4", *words)):
        assert "'shop-9'; the ledger knows: devices, shop-1" in result.stderr
        assert json.loads(result.stdout)
    assert _budget("--merchant", "shop-1", *words).stderr == ""
