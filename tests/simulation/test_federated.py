"""One federation in process: cohorts of devices, seeds, budgets, and participants who are asked twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from federation_world import (
    SHOPPERS,
    catalogue,
    events,
    place,
    population,
    settings,
    trained,
    with_few_features,
)
from federation_world import items as all_items

from client.app import app as client_app
from model.losses import Loss
from model.schema import UserTower
from privacy.accountant import BudgetError
from privacy.ledger_place import ledger_at
from privacy.ledger_records import ChargeState
from privacy.plan import Stage, Trust
from server.coordination.aggregate import CohortTooSmall
from server.coordination.app import app as server_app
from server.coordination.budget import HOLDER
from server.coordination.config import Participants
from server.registry import ModelVersion, Registry
from simulation.federated import nodes_of, plan_before, run_config_of
from simulation.grid import InProcessGrid, run_in_process
from simulation.population import build_population

KINDS = list(Participants)


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five content features in place of thousands."""
    with_few_features(monkeypatch)


def assert_same(left: ModelVersion, right: ModelVersion, tolerance: float) -> None:
    """All weights agree."""
    for name, value in left.weights.items():
        np.testing.assert_allclose(right.weights[name], value, atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("kind", [Participants.SHOPPERS, Participants.BOTH])
def test_one_message_for_a_cohort_of_devices_equals_one_message_for_each(
    tmp_path: Path, kind: Participants
) -> None:
    """512 devices in a message or a single one: the model is the same."""
    people = population(tmp_path, kind)
    together, apart = settings(participants=kind), settings(participants=kind, devices_per_message=1)
    assert nodes_of(people, together) == 1
    assert nodes_of(people, apart) == len(people.devices)
    assert_same(
        trained(people, together, tmp_path / "a"), trained(people, apart, tmp_path / "b"), tolerance=1e-5
    )


def test_merchants_together_in_a_message_equal_merchants_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many merchants one node carries in simulation changes nothing."""
    people = population(tmp_path, Participants.MERCHANTS)
    wanted = settings(participants=Participants.MERCHANTS)
    together = trained(people, wanted, tmp_path / "a")
    monkeypatch.setattr("simulation.federated.MERCHANTS_PER_MESSAGE", 1)
    assert nodes_of(people, wanted) == 4
    assert_same(together, trained(people, wanted, tmp_path / "b"), tolerance=1e-5)


def test_a_seed_gives_the_same_model_twice_and_another_seed_another(tmp_path: Path) -> None:
    """Without noise the hash is a function of data, settings and seed; the registry tells them apart."""
    people = population(tmp_path)
    first = trained(people, settings(seed=1), tmp_path / "a")
    other = trained(people, settings(seed=2), tmp_path / "a")
    again = trained(people, settings(seed=1), tmp_path / "a")
    elsewhere = trained(people, settings(seed=1), tmp_path / "b")
    assert first.content_hash == again.content_hash == elsewhere.content_hash
    assert other.content_hash != first.content_hash
    assert set(Registry(tmp_path / "a" / "registry").versions()) == {first.version, other.version}


@pytest.mark.parametrize("trust", [Trust.CENTRAL, Trust.LOCAL])
@pytest.mark.parametrize("kind", KINDS)
def test_every_shopper_spends_exactly_the_plan(tmp_path: Path, kind: Participants, trust: Trust) -> None:
    """Each account holds the plan's price of the rounds; no account holds anything else."""
    people = population(tmp_path, kind)
    wanted = settings(participants=kind, trust=trust, noise_seed=3, rounds=1)
    where = place(tmp_path)
    plan = plan_before(run_config_of(people, wanted, where), people.participants)
    trained(people, wanted, tmp_path)
    ledger = ledger_at(where.ledger)
    price = plan.mu2 - (plan.of(Stage.LINKAGE).mu2 if plan.has(Stage.LINKAGE) else 0.0)
    holders = [*people.merchants, *(["devices"] if people.devices else [])]
    assert sorted(one.holder for one in ledger.statement()) == sorted([*holders, HOLDER])
    for holder in holders:
        accounts = ledger.spent_by_subject(holder)
        expected = people.devices if holder == "devices" else people.shoppers_of(holder)
        assert set(accounts) == set(expected)
        np.testing.assert_allclose(list(accounts.values()), price, atol=1e-9)
    assert all(record.state is ChargeState.COMMITTED for record in ledger.charges())


@pytest.mark.parametrize("kind", KINDS)
def test_trust_none_charges_nobody(tmp_path: Path, kind: Participants) -> None:
    """A run that promises nothing leaves every account as it was, and its card says that it is unprotected."""
    people = population(tmp_path, kind)
    version = trained(people, settings(participants=kind, rounds=0), tmp_path)
    assert ledger_at(place(tmp_path).ledger).statement() == ()
    assert version.card["privacy"]["epsilon"] is None
    assert version.card["privacy"]["mechanism"] == "none"
    assert version.card["privacy"]["trust"] == "none"


def test_merchants_train_locally_with_opacus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under local trust each merchant takes its DP-SGD steps through Opacus; under central trust nobody does."""
    import client.training

    steps: list[int] = []
    honest = client.training._step

    def counted(*args: Any) -> None:
        steps.append(1)
        honest(*args)

    monkeypatch.setattr(client.training, "_step", counted)
    people = population(tmp_path, Participants.MERCHANTS)
    local = settings(participants=Participants.MERCHANTS, trust=Trust.LOCAL, rounds=2)
    trained(people, local, tmp_path / "a")
    assert len(steps) == 2 * 2 * len(people.merchants)
    trained(people, replace(local, trust=Trust.CENTRAL), tmp_path / "b")
    assert len(steps) == 2 * 2 * len(people.merchants)


@pytest.mark.parametrize("loss", [loss for loss in Loss if loss is not Loss.SAMPLED_SOFTMAX])
def test_another_loss_is_learned_by_every_participant_and_is_on_the_card(tmp_path: Path, loss: Loss) -> None:
    """The word goes from the settings to all participants; it changes the user tower and no statistic."""
    people = population(tmp_path, Participants.BOTH)
    usual, other = settings(participants="both"), settings(participants="both", loss=loss)
    softmax, version = (trained(people, wanted, tmp_path) for wanted in (usual, other))
    assert (softmax.card["loss"], version.card["loss"]) == ("sampled_softmax", str(loss))
    assert not np.array_equal(version.weights["gain"], softmax.weights["gain"])
    np.testing.assert_array_equal(version.weights["item_id"], softmax.weights["item_id"])


@pytest.mark.parametrize("trust", list(Trust))
def test_the_attention_tower_learns_its_attention_and_its_card_says_so(tmp_path: Path, trust: Trust) -> None:
    """One vector more is trained and released, under every trust; a pooling version has none."""
    people = population(tmp_path, Participants.MERCHANTS)
    wanted = settings(participants=Participants.MERCHANTS, trust=trust, user_tower=UserTower.ATTENTION)
    version = trained(people, wanted, tmp_path)
    assert version.card["user_tower"] == "attention"
    assert version.weights["attention"].shape == (wanted.dim,) and version.weights["attention"].any()
    plain = trained(people, replace(wanted, user_tower=UserTower.POOLING), tmp_path / "plain")
    assert plain.card["user_tower"] == "pooling" and "attention" not in plain.weights


def test_a_second_run_is_planned_for_the_rest_and_a_third_is_refused(tmp_path: Path) -> None:
    """Epsilon 4, then up to 8 in total, then nothing is left; a refusal charges nothing."""
    people, where = population(tmp_path), place(tmp_path)
    ledger = ledger_at(where.ledger)
    trained(people, settings(trust=Trust.CENTRAL, epsilon=4.0, rounds=1), tmp_path)
    four = people.spent_mu2(ledger)
    wanted = settings(trust=Trust.CENTRAL, epsilon=8.0, rounds=1)
    plan = plan_before(run_config_of(people, wanted, where, four), people.participants)
    assert plan.mu2 == pytest.approx(plan.cap_mu2 - four)
    version = trained(people, wanted, tmp_path, spent_mu2=four)
    assert version.card["privacy"]["epsilon"] == pytest.approx(8.0, abs=1e-6)
    assert version.card["privacy"]["epsilon"] <= 8.0
    spent = people.spent_mu2(ledger)
    assert spent <= plan.cap_mu2 * (1 + 1e-9)
    with pytest.raises(BudgetError, match="used up"):
        trained(people, wanted, tmp_path, spent_mu2=spent)
    assert people.spent_mu2(ledger) == spent


def test_participants_refuse_a_coordinator_that_forgets_what_they_have_spent(tmp_path: Path) -> None:
    """A plan for a whole budget meets accounts that are half spent: nobody answers beyond the cap."""
    people, where = population(tmp_path), place(tmp_path)
    trained(people, settings(trust=Trust.CENTRAL, rounds=1), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    wanted = settings(trust=Trust.CENTRAL, rounds=1, minimum_cohort=2)
    config = run_config_of(people, wanted, place(other))
    spent = people.spent_mu2(ledger_at(where.ledger))
    forgetful = _grid_with_ledger(config, where.ledger)

    with pytest.raises(CohortTooSmall, match="would pass the cap"):
        run_in_process(server_app, forgetful, config)
    assert people.spent_mu2(ledger_at(where.ledger)) == spent


def _grid_with_ledger(config: dict[str, Any], ledger: str) -> InProcessGrid:
    return InProcessGrid(client_app, nodes=1, run_config={**config, "ledger": ledger})


def test_another_kind_of_participation_continues_the_same_account(tmp_path: Path) -> None:
    """What shoppers spent through merchants is not forgotten when their devices take part, and the reverse."""
    ledger = ledger_at(place(tmp_path).ledger)
    people = population(tmp_path, Participants.MERCHANTS)
    trained(people, settings(participants="merchants", trust=Trust.CENTRAL, rounds=0), tmp_path)
    spent = people.spent_mu2(ledger)
    assert spent > 0
    for kind in KINDS:
        assert population(tmp_path, kind).spent_mu2(ledger) == pytest.approx(spent)


def test_a_population_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    """Two runs of one process on one folder: the second sees the second's participants and events."""
    first = trained(population(tmp_path), settings(), tmp_path)
    merchants = population(tmp_path, Participants.MERCHANTS)
    trained(merchants, settings(participants=Participants.MERCHANTS), tmp_path)
    fewer = population(tmp_path, Participants.SHOPPERS, events().filter(events()["user_id"] < "shopper-060"))
    assert len(fewer.devices) == 60
    assert trained(fewer, settings(), tmp_path).content_hash != first.content_hash
    again = population(tmp_path)
    assert len(again.devices) == SHOPPERS + 1
    assert_same(first, trained(again, settings(), tmp_path), 0.0)


def test_odd_shoppers_and_merchants_do_not_break_a_round(tmp_path: Path) -> None:
    """A merchant without head items, items that left the catalogue, shoppers with one event, empty merchants."""

    kept = all_items().filter(pl.col("item_id") != "i007")
    lonely = pl.DataFrame(
        [{**all_items().row(0, named=True), "item_id": "z1", "merchant_id": "empty"}],
        schema=all_items().schema,
    )
    left = events().filter(pl.col("merchant_id") == "m1").head(1).with_columns(user_id=pl.lit("new"))
    gone = left.with_columns(item_id=pl.lit("i-gone"), merchant_id=pl.lit("m-gone"), user_id=pl.lit("old"))
    frame = pl.concat([events(), left, gone]).sort("user_id", "timestamp", maintain_order=True)
    for kind in KINDS:
        for trust in Trust:
            folder = tmp_path / f"{kind}-{trust}"
            folder.mkdir()
            people = build_population(folder, pl.concat([kept, lonely]), frame, kind)
            version = trained(people, settings(participants=kind, trust=trust, rounds=1), folder)
            assert version.weights["item_bias"].shape == (len(catalogue(people)),)
            assert all(np.isfinite(value).all() for value in version.weights.values())
