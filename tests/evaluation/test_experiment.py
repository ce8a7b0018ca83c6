"""One experiment in process: what is released, what is only simulated, and what the report may say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from evaluation_world import without_content

from client.store import EventStore
from evaluation.experiment import FEDERATED, PRIVATE, Experiment, finite, measured
from evaluation.planning import planned
from evaluation.protocol import Protocol
from evaluation.report_contract import validate
from evaluation.settings import ExperimentSettings, Watch, config_hash
from evaluation.simulate import simulate
from privacy.errors import QuotaExceeded
from privacy.keyring import Keyring
from privacy.ledger_place import ledger_at
from privacy.plan import Trust
from server.coordination.config import Participants
from server.registry import Registry
from simulation.errors import TooFewParticipants

SHOPPERS, START, DAY = 60, 1_700_000_000, 86_400
FEATURES = 2


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two content features in place of thousands."""
    without_content(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of 60 shoppers of two tastes at two merchants."""
    rows = [
        {
            "user_id": f"s{shopper:02d}",
            "item_id": f"i{2 * ((shopper + 3 * step) % 10) + shopper % 2:02d}",
            "kind": "purchase",
            "timestamp": START + DAY * step + shopper,
            "merchant_id": f"m{((shopper + 3 * step) % 10) // 5}",
        }
        for shopper in range(SHOPPERS)
        for step in range(8)
    ]
    folder = tmp_path_factory.mktemp("shops")
    pl.DataFrame(rows).write_csv(folder / "events.csv")
    return folder


def settings(data: Path, out: Path, **changes: Any) -> ExperimentSettings:
    """A tiny experiment; `changes` replace some of its words."""
    words: dict[str, Any] = {
        "data": data,
        "mapping": None,
        "out": out,
        "ledger": None,
        "participants": Participants.SHOPPERS,
        "trust": Trust.CENTRAL,
        "epsilon": 8.0,
        "delta": 1e-3,
        "rounds": 1,
        "seed": 0,
        "noise_seed": None,
        "split": None,
        "protocol": Protocol.FULL,
        "minimum_cohort": 2,
        "curve": (),
        "devices_per_message": 512,
        "dim": 4,
    }
    return ExperimentSettings(**{**words, **changes})


@pytest.fixture
def prepared(data: Path, tmp_path: Path) -> Iterator[Experiment]:
    """An experiment that has not trained anything yet."""
    out = tmp_path / "run"
    out.mkdir()
    yield Experiment.prepare(settings(data, out), Watch())


def test_the_stores_hold_the_train_events_and_nothing_that_is_held_out(prepared: Experiment) -> None:
    """Shopper by shopper the store is the train part of the split."""
    keyring = Keyring.open(prepared.population.folder / "keys", create=False)
    name = keyring.holder("devices").pseudonymiser.of
    with EventStore.open(prepared.population.folder / "store" / "events.db", keyring, "devices") as store:
        stored = store.read_columns()
    held = sorted(zip(stored.shopper, stored.item_id, stored.timestamp, strict=True))
    rows = prepared.split.train.select("user_id", "item_id", "timestamp").rows()
    assert held == sorted((name(user), item, time) for user, item, time in rows)
    assert prepared.split.test.height > 0
    late = prepared.split.test.select("user_id", "item_id", "timestamp").rows()
    assert not {(name(user), item, time) for user, item, time in late} & set(held)


def test_only_the_released_model_is_charged_and_kept(prepared: Experiment) -> None:
    """Twins without noise and points of the chart are simulated aside: no charge, no version, no checkpoint."""
    released = prepared.release()
    ledger = ledger_at(prepared.settings.ledger_url)
    spent, versions = ledger.charges(), Registry(prepared.settings.out / "registry").versions()
    assert versions == [released.version.version]
    rounds = sorted((prepared.settings.out / "rounds").iterdir())
    assert prepared.unprotected().content_hash != released.version.content_hash
    curve = replace(prepared, settings=replace(prepared.settings, curve=(1.0, 3.0)))
    points = curve.utility_curve(released, 0.5)
    assert [round(point["epsilon"], 6) for point in points] == [1.0, 3.0, 8.0]
    assert points[-1]["value"] == 0.5
    assert ledger.charges() == spent
    assert Registry(prepared.settings.out / "registry").versions() == versions
    assert sorted((prepared.settings.out / "rounds").iterdir()) == rounds


def test_the_learning_curve_ends_at_the_released_model(prepared: Experiment) -> None:
    """One point after the statistics and one after each gradient round of this run, whatever lay there before."""
    stale = prepared.settings.out / "rounds"
    stale.mkdir()
    (stale / "round-099.safetensors").write_bytes(b"of an older run")
    released = prepared.release()
    curve = prepared.learning_curve(released)
    assert [(point["round"], point["stage"]) for point in curve] == [(4, "statistics"), (5, "gradient")]
    (result,) = prepared.results({PRIVATE: prepared.scorer(released.version)}).values()
    assert curve[-1]["value"] == pytest.approx(result.mean("ndcg@10"))


def test_too_small_a_population_is_refused_before_anything_is_charged(data: Path, tmp_path: Path) -> None:
    """Two merchants cannot be a cohort of three; not even the linkage release is paid for."""
    wanted = settings(data, tmp_path, participants=Participants.MERCHANTS, minimum_cohort=3)
    with pytest.raises(TooFewParticipants, match="minimum cohort is 3"):
        simulate(wanted, Watch())
    assert ledger_at(tmp_path / "ledger.db").charges() == []


def test_a_run_beyond_a_merchants_quota_is_refused_before_anything_is_charged(
    data: Path, tmp_path: Path
) -> None:
    """The whole run must fit, or the quota would stop it half-way; a run without noise costs nothing of it."""
    wanted = settings(data, tmp_path, participants=Participants.MERCHANTS)
    with closing(ledger_at(tmp_path / "ledger.db")) as ledger:
        ledger.set_quota("m0", 0.01)
    with pytest.raises(QuotaExceeded, match="'m0'"):
        planned(wanted, Watch())
    with pytest.raises(QuotaExceeded, match="'m0'"):
        simulate(wanted, Watch())
    assert ledger_at(tmp_path / "ledger.db").charges() == []
    assert planned(replace(wanted, trust=Trust.NONE), Watch())["epsilon"] is None


@pytest.mark.parametrize("trust", [Trust.DISTRIBUTED, Trust.NONE])
@pytest.mark.parametrize("kind", list(Participants))
def test_every_kind_of_run_gives_a_report_that_keeps_the_contract(
    data: Path, tmp_path: Path, kind: Participants, trust: Trust
) -> None:
    """End to end; what a shopper has spent at a merchant is the plan's whole price, linkage included."""
    cohort = None if trust is Trust.DISTRIBUTED else 2
    wanted = settings(data, tmp_path, participants=kind, trust=trust, minimum_cohort=cohort)
    report = simulate(wanted, Watch())
    validate(report)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert (PRIVATE in report["models"]) is (trust is Trust.DISTRIBUTED)
    assert FEDERATED in report["models"]
    ledger = ledger_at(tmp_path / "ledger.db")
    if trust is Trust.NONE:
        assert ledger.charges() == []
        assert report["privacy"]["epsilon"] is None
        return
    assert re.fullmatch(
        r"80% of the \d+ participants, as none was given", report["privacy"]["minimum_cohort_is"]
    )
    planned = sum(row["mu2"] for row in report["plan"])
    linkage = sum(row["mu2"] for row in report["plan"] if row["stage"] == "linkage")
    for one in ledger.statement():
        if one.holder in ("devices", "federation"):
            assert one.highest_mu2 == pytest.approx(planned - linkage, abs=1e-9)
        else:
            assert one.highest_mu2 == pytest.approx(planned, abs=1e-9)
    assert ("merchants_p95" in report["privacy"]) is (kind is not Participants.SHOPPERS)


def test_the_minimum_cohort_follows_from_who_takes_part_where_noise_comes_in_shares(
    data: Path, tmp_path: Path
) -> None:
    """Four of five, rounded up; a given one stays, and so does that of the other trust models."""
    shares = settings(data, tmp_path, trust=Trust.DISTRIBUTED, minimum_cohort=None)
    assert [shares.cohort_of(number) for number in (1, 5, 6, 7, 2258)] == [1, 4, 5, 6, 1807]
    assert replace(shares, minimum_cohort=3).cohort_of(2258) == 3
    assert replace(shares, trust=Trust.CENTRAL).cohort_of(2258) == 5


def test_settings_are_described_without_paths_and_hashed(data: Path, tmp_path: Path) -> None:
    """The same words give the same hash wherever the run lies; another word gives another."""
    here, there = settings(data, tmp_path / "a"), settings(data, tmp_path / "b")
    assert str(tmp_path) not in json.dumps(here.described())
    assert config_hash(here.described()) == config_hash(there.described())
    assert config_hash(replace(here, seed=1).described()) != config_hash(here.described())


def test_costs_are_measured_and_no_guarantee_is_null() -> None:
    """Time passes, memory is used, and infinity is no number that JSON knows."""
    with measured() as cost:
        np.ones(1000).sum()
    assert cost["seconds"] > 0
    assert cost["cpu_seconds"] >= 0
    assert cost["peak_rss_bytes"] > 10_000_000
    assert finite(np.inf) is None
    assert finite(2.0) == 2.0
