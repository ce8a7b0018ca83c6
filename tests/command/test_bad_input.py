"""Input at the edges and beyond them: what can be used is used, what cannot is refused before anything is charged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from client.store import EventStore
from fedrank.exits import BUDGET, DATA, USAGE
from model.catalogue import PublicItems, read_public_items
from privacy.keyring import Keyring
from privacy.ledger_place import ledger_at
from privacy.mechanism import GaussianSum
from privacy.plan import Trust
from server.coordination.config import Participants
from simulation.data import load
from simulation.federated import FederationSettings, Place, plan_before, run_config_of, train
from simulation.population import build_population

Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("--rounds", "1", "--dim", "4", "--curve", "", "--minimum-cohort", "2")
LIMIT = 5


def forbid_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the drawing of any noise fail the test."""

    def drawn(*_: object) -> None:
        pytest.fail("noise was drawn")

    monkeypatch.setattr(GaussianSum, "release", drawn)


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise may be drawn in this test."""
    forbid_noise(monkeypatch)


def write(folder: Path, rows: list[tuple[str, str, int]]) -> Path:
    """Write purchases (shopper, item, time) as a data folder."""
    folder.mkdir(exist_ok=True)
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    table.with_columns(pl.lit("purchase").alias("kind")).write_csv(folder / "events.csv")
    return folder


def simulate(fedrank: Command, data: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a small federation."""
    return fedrank("simulate", "--data", str(data), "--out", str(out), *SMALL, *words, "--json")


@pytest.mark.usefixtures("no_noise")
@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--epsilon", "0"), USAGE, "epsilon is 0"),
        (("--epsilon", "-8"), USAGE, "epsilon is -8"),
        (("--epsilon", "nan"), USAGE, "epsilon is nan"),
        (("--epsilon", "inf"), USAGE, "epsilon is inf"),
        (("--delta", "0"), USAGE, "delta is 0"),
        (("--delta", "1"), USAGE, "delta is 1"),
        (("--delta", "-1e-6"), USAGE, "delta is -1e-06"),
        (("--delta", "nan"), USAGE, "delta is nan"),
        (("--curve", "1,0"), USAGE, "epsilon must be positive"),
        (("--curve", "nan"), USAGE, "epsilon must be positive"),
        (("--epsilon", "1e-9", "--delta", "1e-4"), BUDGET, "too small"),
        (("--epsilon", "0.001", "--delta", "1e-9"), BUDGET, "too small"),
    ],
)
@pytest.mark.parametrize("trust", ["central", "local"])
def test_an_impossible_budget_is_refused_before_any_noise_and_any_charge(
    fedrank: Command, data: Path, tmp_path: Path, trust: str, words: tuple[str, ...], code: int, reason: str
) -> None:
    """The thing, the value and an exit code; a ledger that exists stays empty."""
    out = tmp_path / "run"
    out.mkdir()
    done = simulate(fedrank, data, out, "--trust", trust, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in " ".join(done.stderr.replace("│", " ").split())
    if (out / "ledger.db").exists():
        assert ledger_at(out / "ledger.db", create=False).statement() == ()


def test_a_remainder_too_small_for_any_stage_is_refused_and_the_account_stays(
    fedrank: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run spent is there to the last digit; the next run is told that nothing useful is left."""
    out = tmp_path / "run"
    assert simulate(fedrank, data, out, "--epsilon", "2", "--delta", "1e-3").returncode == 0
    before = ledger_at(out / "ledger.db").statement()
    forbid_noise(monkeypatch)
    for epsilon in ("2", "2.0000001"):
        done = simulate(fedrank, data, out, "--epsilon", epsilon, "--delta", "1e-3")
        assert (done.returncode, done.stdout) == (BUDGET, "")
        assert "used up" in done.stderr
        assert ledger_at(out / "ledger.db").statement() == before


@pytest.mark.usefixtures("no_noise")
def test_data_without_a_usable_event_are_refused(fedrank: Command, tmp_path: Path) -> None:
    """A file with its header alone, and one whose rows have no shopper."""
    for name, rows in (("nothing", []), ("nobody", [("", "i1", 5), ("", "i2", 6)])):
        done = simulate(fedrank, write(tmp_path / name, rows), tmp_path / "run")
        assert (done.returncode, done.stdout) == (DATA, "")
        assert not (tmp_path / "run" / "ledger.db").exists()


def test_shoppers_with_one_event_and_with_too_many_take_part_and_the_cap_is_told(
    fedrank: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One charge each, a finite model; the report names the limit, and how many shoppers pass it in steps of 50."""
    for room in ("client.shoppers", "evaluation.simulate"):
        monkeypatch.setattr(f"{room}.EVENT_LIMIT", LIMIT)
    events = load(data).events
    rows = [(str(s), str(i), int(t)) for s, i, t in events.select("user_id", "item_id", "timestamp").rows()]
    first = min(time for _, _, time in rows)
    rows = [row for row in rows if row[0] > "shopper-04" or row[2] < first + 3 * 86_400]
    rows += [(f"{shopper} again", item, time) for shopper, item, time in rows]
    folder = write(tmp_path / "edges", [*rows, ("one", "i03", first)])
    done = simulate(fedrank, folder, tmp_path / "run", "--delta", "1e-3")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["data"]["event_limit"], report["data"]["capped_shoppers_at_least"]) == (LIMIT, 50)
    assert [
        text for text in report["warnings"] if f"At least 50 shoppers have more than {LIMIT} events" in text
    ]
    spent = ledger_at(tmp_path / "run" / "ledger.db").spent_by_subject("devices")
    assert len(spent) == report["data"]["shoppers"] and len(set(spent.values())) == 1


@pytest.mark.usefixtures("no_noise")
def test_a_catalogue_that_names_an_item_twice_stops_the_coordinator_before_any_charge(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fedrank: Command
) -> None:
    """Every event of that item would count for one of two rows; exit code 3, and no account is opened."""

    def doubled(path: Path) -> PublicItems:
        table = pl.read_parquet(path)
        pl.concat([table, table.head(1)]).write_parquet(path)
        return read_public_items(path)

    monkeypatch.setattr("simulation.federated.read_public_items", doubled)
    done = simulate(fedrank, data, tmp_path / "run", "--delta", "1e-3")
    assert (done.returncode, done.stdout) == (DATA, "")
    assert "1 item ids stand there more than once, the first is 'i00'" in done.stderr
    assert ledger_at(tmp_path / "run" / "ledger.db").statement() == ()


def test_events_of_an_item_that_left_the_catalogue_are_left_out_of_the_federation(
    data: Path, tmp_path: Path
) -> None:
    """Stores keep them; every statistic passes them over, and the shopper stays."""
    dataset = load(data)
    gone = dataset.items["item_id"][0]
    people = build_population(
        tmp_path, dataset.items.filter(pl.col("item_id") != gone), dataset.events, Participants.SHOPPERS
    )
    settings = FederationSettings(
        participants=Participants.SHOPPERS,
        trust=Trust.CENTRAL,
        epsilon=8,
        delta=1e-3,
        rounds=1,
        clock="seconds",
    )
    place = Place(
        name="gone", registry=tmp_path / "r", ledger=str(tmp_path / "l.db"), checkpoints=tmp_path / "c"
    )
    config = run_config_of(people, settings, place)
    assert plan_before(config, people.participants).spent_mu2 == 0
    version = train(people, settings, place, config)
    assert version.card["schema"]["items"] == len(dataset.items) - 1
    with EventStore.open(
        tmp_path / "store" / "events.db", Keyring.open(tmp_path / "keys"), "devices"
    ) as store:
        assert gone in store.read_columns().item_id
