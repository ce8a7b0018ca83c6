"""`fedrank simulate` as a command: one object on standard output, a run folder, an account that continues.

A process of its own for what processes differ in; all other runs in this process, which has loaded everything.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.report_contract import UNPROTECTED, validate
from fedrank.exits import BUDGET, DATA, FEDERATION, USAGE
from model.catalogue import digest_of_ids, read_public_items
from privacy.accountant import epsilon_of
from privacy.anonymity import K
from privacy.keyring import Keyring
from privacy.ledger_place import ledger_at
from server.coordination.budget import HOLDER
from server.registry import Registry

BIN = Path(sys.executable).parent
SHOPPERS = 40
SMALL = ("--rounds", "1", "--dim", "4", "--curve", "", "--minimum-cohort", "2", "--delta", "1e-3")
OF_MERCHANTS = ("--participants", "merchants", "--surfaces", "home", "--json")
Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]


def command(*words: str) -> list[str]:
    """The command line of `fedrank simulate`."""
    return [str(BIN / "fedrank"), "simulate", *words]


def simulate(fedrank: Command, data: Path, out: Path, *words: str) -> Done:
    """Run the command to its end."""
    return fedrank("simulate", "--data", str(data), "--out", str(out), *SMALL, *words)


def simulate_apart(data: Path, out: Path, *words: str) -> Done:
    """Run the command to its end in a process of its own."""
    return subprocess.run(
        command("--data", str(data), "--out", str(out), *SMALL, *words),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=out.parent,
    )


def report_of(done: Done) -> dict[str, Any]:
    """The one JSON object on standard output, strictly read."""
    assert done.returncode == 0, done.stderr[-2000:]

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no JSON")

    report: dict[str, Any] = json.loads(done.stdout, parse_constant=refuse)
    assert done.stdout.count("\n") == 1
    return report


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run of devices at epsilon 4 as a process, and its report; beside it lies a copy that nobody has opened."""
    out = tmp_path_factory.mktemp("runs") / "first"
    report = report_of(simulate_apart(data, out, "--epsilon", "4", "--json"))
    shutil.copytree(out, out.with_name("unopened"))
    return out, report


def test_json_is_one_object_that_keeps_the_contract(run: tuple[Path, dict[str, Any]]) -> None:
    """Standard output holds the report of the run folder and nothing else."""
    out, report = run
    validate(report)
    assert json.loads((out / "report.json").read_text()) == report
    assert {"two_tower_private", "two_tower_federated", "two_tower_central"} <= set(report["models"])
    assert {"ials", "item_neighbours", "popularity"} <= set(report["models"])
    assert report["privacy"]["epsilon"] == pytest.approx(4.0, abs=1e-6)
    assert report["privacy"]["delta"] == 1e-3
    assert (report["privacy"]["trust"], report["privacy"]["minimum_cohort"]) == ("distributed", 2)
    assert report["privacy"]["minimum_cohort_is"] == "as given"
    assert report["data"]["merchants"] == 2
    assert (report["data"]["event_limit"], report["data"]["capped_shoppers_at_least"]) == (10_000, 0)
    assert not [text for text in report["warnings"] if "have more than" in text]


def test_with_few_judged_shoppers_merchants_have_no_figures_and_the_report_says_so(
    run: tuple[Path, dict[str, Any]],
) -> None:
    """Forty shoppers are too few for any figure of a part of them."""
    _, report = run
    assert report["data"]["judged_shoppers"] < K and report["per_merchant"] == []
    assert [text for text in report["warnings"] if f"Fewer than {K} shoppers were judged" in text]


def test_the_run_folder_holds_the_promoted_model_of_the_report(run: tuple[Path, dict[str, Any]]) -> None:
    """Registry, catalogue, store, ledger and page are there, and the hash is the report's."""
    out, report = run
    registry = Registry(out / "registry")
    promoted = registry.promoted()
    assert promoted is not None
    version = registry.get(promoted)
    assert version.content_hash == report["model_hash"]
    items = read_public_items(out / "catalogue.parquet")
    assert len(items) == version.card["schema"]["items"] == 20
    assert version.card["item_ids"] == digest_of_ids(items.item_ids)
    for name in ("report.html", "store/events.db", "keys", "ledger.db"):
        assert (out / name).exists()
    assert "<table" in (out / "report.html").read_text()
    ledger = ledger_at(out / "ledger.db", create=False)
    spent = set(ledger.spent_by_subject("devices").values())
    assert len(spent) == 1
    assert epsilon_of(spent.pop() ** 0.5, 1e-3) == pytest.approx(4.0, abs=1e-6)


def test_no_shopper_is_named_in_the_run_folder_or_the_output(
    run: tuple[Path, dict[str, Any]], data: Path
) -> None:
    """Ids of shoppers are in the user's file and nowhere else."""
    out, report = run
    assert "shopper-07" in (data / "events.csv").read_text()
    assert "shopper-07" not in json.dumps(report)
    for path in out.rglob("*"):
        if path.is_file():
            assert b"shopper-07" not in path.read_bytes(), path.name


def test_held_out_events_are_in_no_store(run: tuple[Path, dict[str, Any]], data: Path) -> None:
    """The stores hold the train events, all of them older than the first held-out one."""
    from client.store import EventStore
    from evaluation.split import choose, split
    from simulation.data import load

    out, report = run
    dataset = load(data)
    cut = split(dataset, choose(dataset))
    with EventStore.open(
        out / "store" / "events.db", Keyring.open(out / "keys", create=False), "devices"
    ) as store:
        columns = store.read_columns()
    assert len(columns) == cut.train.height == report["data"]["train_events"]
    assert report["data"]["held_out_events"] == cut.test.height > 0
    assert max(columns.timestamp) < cut.test["timestamp"].to_numpy().min()


def test_a_ledger_continues_and_a_used_up_budget_is_refused(
    run: tuple[Path, dict[str, Any]], fedrank: Command, data: Path, tmp_path: Path
) -> None:
    """After epsilon 4 another run folder continues to 8 in total; then nothing is left for a third."""
    first, _ = run
    ledger = first / "ledger.db"
    second = report_of(
        simulate(fedrank, data, tmp_path / "second", "--epsilon", "8", "--ledger", str(ledger), "--json")
    )
    assert second["privacy"]["epsilon"] == pytest.approx(8.0, abs=1e-6)
    accounts = ledger_at(ledger, create=False).spent_by_subject("devices")
    assert len(accounts) == SHOPPERS  # the same pseudonyms, not new ones
    assert epsilon_of(max(accounts.values()) ** 0.5, 1e-3) <= 8.0 + 1e-6
    before = ledger_at(ledger).charges()
    third = simulate_apart(data, tmp_path / "third", "--epsilon", "8", "--ledger", str(ledger), "--json")
    assert_refused(third, BUDGET, "raise --epsilon")
    assert ledger_at(ledger).charges() == before


def test_a_killed_run_has_spent_what_it_reserved(fedrank: Command, data: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the rounds: the next run plans for the rest and never passes the budget."""
    out = tmp_path / "killed"
    words = ("--data", str(data), "--out", str(out), *SMALL[2:], "--epsilon", "8")
    process = subprocess.Popen(
        command(*words, "--rounds", "4000", "--cohort-size", "5"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_gradient(out / "ledger.db", process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    ledger = ledger_at(out / "ledger.db", create=False)
    killed = ledger.spent_by_subject("devices")
    assert len(killed) == SHOPPERS
    assert min(killed.values()) > 0
    spent = epsilon_of(max(killed.values()) ** 0.5, 1e-3)
    assert spent < 8.0
    report = report_of(simulate(fedrank, data, out, "--epsilon", "8", "--json"))
    after = ledger.spent_by_subject("devices")
    assert set(after) == set(killed)
    assert all(after[name] > killed[name] for name in killed)
    assert epsilon_of(max(after.values()) ** 0.5, 1e-3) <= 8.0 + 1e-6
    assert report["privacy"]["epsilon"] == pytest.approx(8.0, abs=1e-6)
    registry = Registry(out / "registry")
    card = registry.get(str(registry.promoted())).card
    assert card["privacy"]["spent_before_mu2"] >= max(killed.values())


def wait_for_gradient(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as the coordinator has reserved its first gradient round."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        if path.exists() and any(
            record.charge.stage == "gradient" for record in ledger_at(path).charges(HOLDER)
        ):
            return
        time.sleep(0.05)
    raise AssertionError("no gradient round within 90 s")


def test_trust_none_is_loud_in_every_output(fedrank: Command, data: Path, tmp_path: Path) -> None:
    """JSON, text and page say that nothing protects anybody; there is no epsilon and no charge."""
    out = tmp_path / "none"
    done = simulate(fedrank, data, out, "--trust", "none", "--participants", "merchants")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((out / "report.json").read_text())
    validate(report)
    assert UNPROTECTED in report["warnings"]
    assert report["privacy"]["epsilon"] is None
    assert "UNPROTECTED" in done.stdout
    assert "UNPROTECTED" in (out / "report.html").read_text()
    assert "two_tower_private" not in report["models"]
    assert ledger_at(out / "ledger.db").charges() == []


@pytest.mark.parametrize("participants", ["merchants", "both"])
def test_local_trust_runs_from_end_to_end(
    fedrank: Command, data: Path, tmp_path: Path, participants: str
) -> None:
    """Opacus prints nothing on standard output; epsilon at many merchants is stated where it matters."""
    out = tmp_path / "local"
    report = report_of(
        simulate(fedrank, data, out, "--trust", "local", "--participants", participants, "--json")
    )
    validate(report)
    assert report["privacy"]["trust"] == "local"
    assert report["privacy"]["epsilon"] == pytest.approx(8.0, abs=1e-6)
    assert report["privacy"]["merchants_p95"] in (1, 2)
    assert report["privacy"]["epsilon_at_merchants_max"] >= report["privacy"]["epsilon"]
    ledger = ledger_at(out / "ledger.db")
    for merchant in ("m0", "m1"):
        spent = ledger.spent(merchant)
        assert epsilon_of(spent**0.5, 1e-3) == pytest.approx(8.0, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--epsilon", "0"), USAGE, "epsilon is 0"),
        (("--epsilon", "-1"), USAGE, "epsilon is -1"),
        (("--epsilon", "nan"), USAGE, "epsilon is nan"),
        (("--delta", "2"), USAGE, "delta is 2"),
        (("--rounds", "-1"), USAGE, "rounds"),
        (("--minimum-cohort", "41"), FEDERATION, "minimum cohort is 41"),
        (("--minimum-cohort", "0"), USAGE, "minimum-cohort"),
        (("--split", "given"), DATA, "no given test"),
        (("--seed", "-5"), USAGE, "seed is -5"),
        (("--noise-seed", "-5"), USAGE, "noise-seed is -5"),
        (("--epsilon", "1e-9"), BUDGET, "too small"),
    ],
)
def test_bad_input_is_one_line_and_charges_nothing(
    fedrank: Command, data: Path, tmp_path: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    """The documented exit code, a reason, no traceback, an empty ledger."""
    out = tmp_path / "bad"
    assert_refused(simulate(fedrank, data, out, *words, "--json"), code, reason)
    if (out / "ledger.db").exists():
        assert ledger_at(out / "ledger.db").statement() == ()


def test_a_refused_run_leaves_the_run_before_it_as_it_was(
    run: tuple[Path, dict[str, Any]], fedrank: Command, data: Path
) -> None:
    """Model, store, catalogue and checkpoints stay together, so that the folder can still be served."""
    out = run[0].with_name("unopened")
    kept = [path for path in sorted(out.rglob("*")) if path.is_file() and "ledger" not in path.name]
    before = {path: path.read_bytes() for path in kept}
    assert simulate(fedrank, data, out, "--epsilon", "4", "--json").returncode == BUDGET
    assert {path: path.read_bytes() for path in kept} == before
    assert not (out / ".incoming").exists()


def test_a_run_folder_that_cannot_be_made_is_named(fedrank: Command, data: Path) -> None:
    """A file stands where the folder should be."""
    assert_refused(simulate(fedrank, data, data / "events.csv", "--json"), USAGE, "cannot be made")


def test_a_path_that_is_not_there_is_named(fedrank: Command, tmp_path: Path) -> None:
    """Nothing is read, nothing is made up."""
    refused = simulate(fedrank, tmp_path / "nowhere", tmp_path / "out", "--json")
    assert_refused(refused, DATA, "nowhere")


def assert_refused(done: Done, code: int, reason: str) -> None:
    """One line of reason on standard error, the exit code, and nothing on standard output."""
    assert done.returncode == code, done.stderr[-2000:]
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if code != USAGE or "fedrank: " in done.stderr:
        lines = [line for line in done.stderr.splitlines() if line.startswith("fedrank: ")]
        assert len(lines) == 1
        assert done.stderr.splitlines()[-1] == lines[0]
    assert reason in done.stderr
    assert os.linesep not in reason


def merchants_run(fedrank: Command, data: Path, out: Path, *words: str) -> dict[str, Any]:
    """The report of a run of the two merchants."""
    return report_of(simulate(fedrank, data, out, *OF_MERCHANTS, *words))


def test_masked_sums_give_the_model_of_ideal_ones_and_the_report_says_which_they_were(
    fedrank: Command, data: Path, tmp_path: Path
) -> None:
    """Ideal is the default; both add the very same numbers up, of shoppers with the same pseudonyms."""
    keys = Keyring.open(tmp_path / "ideal" / "keys")
    for holder in ("devices", "m0", "m1"):
        keys.holder(holder)
    keys.close()
    shutil.copytree(tmp_path / "ideal", tmp_path / "full")
    noise = ("--trust", "central", "--noise-seed", "5")
    ideal = merchants_run(fedrank, data, tmp_path / "ideal", *noise)
    full = merchants_run(fedrank, data, tmp_path / "full", *noise, "--secure-aggregation", "full")
    assert ideal["privacy"]["sums"].startswith("ideal: ") and full["privacy"]["sums"].startswith("full: ")
    assert (ideal["config"]["secure_aggregation"], full["config"]["secure_aggregation"]) == ("ideal", "full")
    for model, metrics in ideal["models"].items():
        for metric, value in metrics.items():
            assert full["models"][model][metric]["mean"] == pytest.approx(value["mean"], abs=0.02)
    assert full["privacy"]["epsilon"] == ideal["privacy"]["epsilon"]
    assert not (tmp_path / "full" / "identities").exists()


def test_too_few_parties_for_a_secure_sum_are_a_failure_that_says_so(
    fedrank: Command, data: Path, tmp_path: Path
) -> None:
    """Two merchants cannot be a minimum cohort of three nodes, whatever the plan says."""
    done = simulate(
        fedrank,
        data,
        tmp_path / "run",
        *OF_MERCHANTS,
        "--secure-aggregation",
        "full",
        "--minimum-cohort",
        "3",
    )
    assert done.returncode != 0
    assert "minimum cohort is 3" in done.stderr
