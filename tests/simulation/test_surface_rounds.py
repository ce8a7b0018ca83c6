"""What the surfaces learn through whole federations: baskets and fusion, whose they are, and what is charged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from federation_world import DAY, START, events, place, population_of, settings, trained, with_few_features
from numpy.typing import NDArray

from model.features import FUSION_FEATURES, SURFACES
from model.fusion import unlearned
from model.schema import Schema, check, complement_of
from privacy.ledger_place import ledger_at
from privacy.plan import Stage, Trust
from server.coordination import budget
from server.coordination.budget import HOLDER
from server.coordination.config import ConfigError, Participants
from server.coordination.learner import Learner
from simulation.federated import FederationSettings, plan_before, run_config_of
from simulation.population import Population

KINDS = "purchase,add_to_cart"

Seen = list[tuple[NDArray[np.float32], NDArray[np.float64], float]]


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five content features in place of thousands."""
    with_few_features(monkeypatch)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the learner is given: axes, moment and noise."""
    seen: Seen = []
    honest = Learner.learn_baskets

    def spied(self: Learner, *given: Any) -> None:
        seen.append(given)
        honest(self, *given)

    monkeypatch.setattr(Learner, "learn_baskets", spied)
    return seen


class Silence:
    """Noise that is not there, so that sums can be compared."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(count)


def in_visits() -> pl.DataFrame:
    """The events of the world, each shopper's in about four visits."""
    day = START + (pl.col("timestamp") - START) // (25 * DAY) * (25 * DAY)
    return events().with_columns(day.alias("timestamp"))


def wanted(**changes: Any) -> FederationSettings:
    """A federation that learns what goes together, and what each part of a score counts."""
    return settings(**{"basket_kinds": KINDS, "fusion": True, "rounds": 1, **changes})


def people_of(folder: Path, kind: Participants = Participants.SHOPPERS) -> Population:
    """The population of all visits."""
    return population_of(folder, kind, in_visits)


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("kind", list(Participants))
def test_every_kind_of_federation_learns_what_its_surfaces_need(
    tmp_path: Path, released: Seen, kind: Participants, trust: Trust
) -> None:
    """One release in axes that all share, and one of the fusion; the version says so, and fits the schema."""
    people = people_of(tmp_path, kind)
    asked = wanted(participants=kind, trust=trust, noise_seed=5, epsilon=60.0)
    version = trained(people, replace(asked, minimum_cohort=people.participants), tmp_path)
    ((axes, moment, std),) = released
    assert moment.shape == (axes.shape[1],) * 2 and np.array_equal(moment, moment.T)
    assert (std == 0.0) == (trust is Trust.NONE)
    columns = complement_of(version.weights).shape[1]
    learned = version.card["learned"]
    assert learned["complement_columns"] == columns and learned["basket_kinds"] == KINDS.split(",")
    assert columns > 0 or trust is Trust.LOCAL
    assert learned["fusion"] and version.weights["fusion"].shape == (len(SURFACES), len(FUSION_FEATURES))
    moved = np.abs(version.weights["fusion"] - unlearned(version.weights)).sum()
    assert moved > 0 or trust is Trust.LOCAL
    items, dim = version.weights["item_id"].shape
    features = version.weights["content"].shape[0]
    check(version.weights, Schema(items=items, content_features=features, dim=dim))
    assert version.card["privacy"]["rounds"] == (6 if trust is not Trust.NONE else 5)


def moment_by_hand(axes: NDArray[np.float32], kind: Participants) -> NDArray[np.float64]:
    """The sum over shoppers (at one merchant, or at all) of M / |M| from all visits."""
    bought = in_visits().filter(pl.col("kind") == "purchase")
    alone = kind is Participants.MERCHANTS
    expected, table = np.zeros((axes.shape[1],) * 2), axes.astype(float)
    for _, own in bought.group_by("user_id", *(["merchant_id"] if alone else [])):
        total = np.zeros_like(expected)
        for _, basket in own.group_by("timestamp"):
            rows = table[sorted({int(name[1:]) for name in basket["item_id"]})]
            total += (np.outer(rows.sum(axis=0), rows.sum(axis=0)) - rows.T @ rows) / len(rows)
        length = np.linalg.norm(total)
        expected += total / length if length > 1e-9 else 0.0
    return expected


@pytest.mark.parametrize("kind", [Participants.SHOPPERS, Participants.MERCHANTS])
def test_without_the_noise_every_shopper_with_a_basket_has_one_share_of_norm_one(
    tmp_path: Path, released: Seen, monkeypatch: pytest.MonkeyPatch, kind: Participants
) -> None:
    """From encrypted stores through messages to the learner: the moment is the sum of unit moments, by hand."""
    monkeypatch.setattr(budget, "SystemNoise", Silence)
    trained(people_of(tmp_path, kind), wanted(participants=kind, trust=Trust.CENTRAL, rounds=0), tmp_path)
    ((axes, moment, _),) = released
    expected = moment_by_hand(axes, kind)
    assert np.linalg.norm(expected) > 10
    np.testing.assert_allclose(moment, expected, atol=1e-4)


@pytest.mark.parametrize("kind", [Participants.SHOPPERS, Participants.MERCHANTS])
@pytest.mark.parametrize("trust", [Trust.DISTRIBUTED, Trust.CENTRAL, Trust.LOCAL])
def test_the_learner_is_told_the_noise_that_lies_on_the_moment(
    tmp_path: Path, released: Seen, kind: Participants, trust: Trust
) -> None:
    """Entries off the diagonal deviate from the exact ones by the stated deviation."""
    people = people_of(tmp_path, kind)
    noise = []
    for seed in range(3):
        asked = wanted(participants=kind, trust=trust, noise_seed=seed, rounds=0, fusion=False, epsilon=20.0)
        trained(people, replace(asked, minimum_cohort=people.participants - 1), tmp_path / f"{seed}")
        axes, moment, std = released[-1]
        off = (moment - moment_by_hand(axes, kind)) / std
        noise.append(off[np.triu_indices(len(off), 1)])
    entries = np.concatenate(noise)
    assert entries.size >= 18
    assert abs(np.mean(entries**2) - 1.0) < 5 * np.sqrt(2 / entries.size)


@pytest.mark.parametrize("trust", [Trust.CENTRAL, Trust.LOCAL])
@pytest.mark.parametrize("kind", list(Participants))
def test_baskets_and_fusion_are_events_of_their_own_in_every_account(
    tmp_path: Path, kind: Participants, trust: Trust
) -> None:
    """The coordinator's and every holder's, at the price of the plan; the whole is the budget."""
    people, where = people_of(tmp_path, kind), place(tmp_path)
    asked = wanted(participants=kind, trust=trust)
    plan = plan_before(run_config_of(people, asked, where), people.participants)
    trained(people, asked, tmp_path)
    ledger = ledger_at(where.ledger)
    stages = ["counts", "gram", "subspace", "baskets", "gradient", "fusion"]
    for holder in (HOLDER, *people.merchants, *(["devices"] if people.devices else [])):
        charges = sorted((record.charge for record in ledger.charges(holder)), key=lambda one: one.round)
        assert [charge.stage for charge in charges] == stages
        assert charges[3].mu2 == pytest.approx(plan.of(Stage.BASKETS).mu2)
        assert charges[5].mu2 == pytest.approx(plan.of(Stage.FUSION).mu2)
        assert sum(charge.mu2 for charge in charges) <= plan.cap_mu2 * (1 + 1e-12)
    assert plan.total_epsilon() == pytest.approx(8.0)


def test_one_message_for_a_cohort_equals_one_message_for_each(tmp_path: Path) -> None:
    """512 devices in a message or a single one: what goes together is the same to 1e-5."""
    people = people_of(tmp_path)
    together = trained(people, wanted(), tmp_path / "a")
    apart = trained(people, wanted(devices_per_message=1), tmp_path / "b")
    found, again = (complement_of(version.weights) for version in (together, apart))
    assert found.shape[1] > 0
    np.testing.assert_allclose(
        again @ again.T, found @ found.T, atol=1e-5
    )  # the sign of a column is arbitrary
    for name in together.weights.keys() - {"complement"}:
        np.testing.assert_allclose(apart.weights[name], together.weights[name], atol=1e-5, err_msg=name)


def test_without_them_a_version_is_what_it_was_and_their_shares_go_to_the_others(tmp_path: Path) -> None:
    """No kinds named and no fusion: no stage, no table, and no less for the Gram than ever."""
    people, where = people_of(tmp_path), place(tmp_path)
    version = trained(people, wanted(basket_kinds="", fusion=False), tmp_path)
    assert version.weights.keys().isdisjoint({"complement", "fusion"})
    assert version.card["learned"] == {"complement_columns": 0, "basket_kinds": [], "fusion": False}
    words = run_config_of(people, wanted(basket_kinds="", fusion=False, trust=Trust.CENTRAL), where)
    plan = plan_before(words, people.participants)
    assert not plan.has(Stage.BASKETS) and plan.of(Stage.GRAM).mu2 == pytest.approx(0.36 / 0.99 * plan.mu2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"basket_kinds": "purchase,gift"}, "'gift'"), ({"clock": "order"}, "without a clock")],
)
def test_baskets_that_cannot_be_are_refused_before_anything_is_charged(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    """A kind that nobody knows, and data in which nobody knows what was taken together."""
    people = people_of(tmp_path)
    with pytest.raises(ConfigError, match=named):
        plan_before(
            run_config_of(people, wanted(trust=Trust.CENTRAL, **changes), place(tmp_path)),
            people.participants,
        )
