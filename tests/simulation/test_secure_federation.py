"""Whole runs by the protocol of secure aggregation give the model that ideal sums give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from federation_world import place, population, settings, trained, with_few_features
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app import app as client_app
from privacy.plan import Trust
from proto.federation import MASKED, RECEIPT, SECURE
from server.coordination.app import MODEL
from server.coordination.app import app as server_app
from server.coordination.config import Combine, FederationConfig, Participants
from server.registry import ModelVersion, Registry
from simulation.federated import (
    FederationSettings,
    SecureAggregation,
    identities_of,
    minimum_nodes_of,
    nodes_of,
    run_config_of,
)
from simulation.grid import FIRST_NODE, InProcessGrid, node_name, run_in_process
from simulation.identities import identities
from simulation.population import Population

KINDS = list(Participants)


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five content features in place of thousands; one merchant to a message, as a party is."""
    with_few_features(monkeypatch)
    monkeypatch.setattr("simulation.federated.MERCHANTS_PER_MESSAGE", 1)


def full(**changes: Any) -> FederationSettings:
    """A federation of several parties under masks."""
    words = {"minimum_cohort": 3, "devices_per_message": 30, "rounds": 1, **changes}
    return settings(**words, secure_aggregation=SecureAggregation.FULL)


def assert_same(left: ModelVersion, right: ModelVersion) -> None:
    """All weights agree to what rounding to the grid may do."""
    for name, value in left.weights.items():
        np.testing.assert_allclose(right.weights[name], value, atol=1e-6, rtol=0, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_the_model_is_that_of_ideal_sums(tmp_path: Path, kind: Participants) -> None:
    """Same seed, same data; merchants, devices, and both: equal within fixed-point error."""
    people, wanted = population(tmp_path, kind), full(participants=kind, trust=Trust.NONE)
    ideal = trained(people, wanted.in_the_open(), tmp_path / "ideal")
    assert_same(ideal, trained(people, wanted, tmp_path / "full"))
    assert not identities_of(people).exists()


@pytest.mark.parametrize("trust", [Trust.DISTRIBUTED, Trust.CENTRAL])
def test_with_repeatable_noise_it_is_the_same_model_too(tmp_path: Path, trust: Trust) -> None:
    """Shares of noise are whole units, so that nothing is lost under masks."""
    people, wanted = (
        population(tmp_path, Participants.MERCHANTS),
        full(participants=Participants.MERCHANTS, trust=trust, noise_seed=3),
    )
    ideal = trained(people, wanted.in_the_open(), tmp_path / "ideal")
    assert_same(ideal, trained(people, wanted, tmp_path / "full"))


class Recorder:
    """The participants' app, with everything that they send written down, and nodes that die."""

    def __init__(self, dies: dict[int, str]) -> None:
        """Node p dies of a message of the type `dies[p]`, and does not come back."""
        self.sent: list[Message] = []
        self._dies, self._dead = dies, set[int]()

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer as a participant does."""
        node = context.node_id - FIRST_NODE
        if message.metadata.message_type == self._dies.get(node):
            self._dead.add(node)
        if node in self._dead:
            raise ConnectionError("no such node")
        reply = client_app(message, context)
        self.sent.append(reply)
        return reply


def recorded(
    people: Population, wanted: FederationSettings, folder: Path, dies: dict[int, str]
) -> tuple[ModelVersion, Recorder]:
    """Train with everything that leaves a node written down."""
    where, app = place(folder), Recorder(dies)
    words = run_config_of(people, wanted, where)
    names = [node_name(node) for node in range(nodes_of(people, wanted))]
    config = FederationConfig.from_run_config(words)
    with identities(identities_of(people), names, config) as made:
        grid = InProcessGrid(cast(ClientApp, app), nodes=len(names), run_config=words, identities=made)
        state = run_in_process(server_app, grid, words)
    return Registry(where.registry).get(str(state.config_records[MODEL]["version"])), app


def test_no_contribution_ever_leaves_in_the_open(tmp_path: Path) -> None:
    """A whole run: receipts, protocol, and masked integers; no array of numbers anywhere."""
    people = population(tmp_path, Participants.MERCHANTS)
    wanted = full(participants=Participants.MERCHANTS, trust=Trust.DISTRIBUTED, noise_seed=1)
    _, app = recorded(people, wanted, tmp_path, {})
    assert {record for reply in app.sent for record in reply.content} == {RECEIPT, SECURE, MASKED}
    assert all({*reply.content.array_records} <= {MASKED} for reply in app.sent)
    trains = [reply for reply in app.sent if reply.metadata.message_type.startswith("train.")]
    assert len(trains) == 4 * 4  # four merchants in four rounds
    masked = b"".join(reply.content.array_records[MASKED][MASKED].numpy().tobytes() for reply in trains)
    counts = np.bincount(np.frombuffer(masked, np.uint8), minlength=256)
    expected = len(masked) / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


def test_a_device_group_that_dies_in_a_round_is_left_out_and_the_run_goes_on(tmp_path: Path) -> None:
    """It dies of the first gradient, after it has dealt its shares: the model is one that the others make."""
    people = population(tmp_path)
    wanted = full(trust=Trust.NONE, devices_per_message=20, rounds=2)
    assert nodes_of(people, wanted) == 7
    version, app = recorded(people, wanted, tmp_path, {6: "train.gradient"})
    assert all(np.isfinite(value).all() for value in version.weights.values())
    gradients = [reply for reply in app.sent if reply.metadata.message_type == "train.gradient"]
    assert len(gradients) == 2 * 6
    whole = trained(people, wanted.in_the_open(), tmp_path / "whole")
    np.testing.assert_allclose(version.weights["item_id"], whole.weights["item_id"], atol=1e-6)
    assert not np.allclose(version.weights["gain"], whole.weights["gain"], atol=1e-6)


def test_a_median_of_buckets_trains_a_model_near_that_of_their_sum(tmp_path: Path) -> None:
    """Three buckets of device groups that are alike; nothing about the run else differs."""
    people = population(tmp_path)
    summed = full(trust=Trust.NONE, devices_per_message=13, buckets=3)
    version = trained(people, replace(summed, combine=Combine.MEDIAN), tmp_path / "median")
    plain = trained(people, summed, tmp_path / "sum")
    one, other = version.weights["item_bias"], plain.weights["item_bias"]
    assert np.corrcoef(one, other)[0, 1] > 0.5 and not np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_minimum_cohort_of_participants_is_one_of_nodes(tmp_path: Path, kind: Participants) -> None:
    """So many nodes carry at least the minimum cohort, and a sum never has fewer than two."""
    people = population(tmp_path, kind)
    for cohort in (1, 3, 4):
        wanted = full(participants=kind, minimum_cohort=cohort)
        nodes, needed = nodes_of(people, wanted), minimum_nodes_of(people, wanted)
        carried = sorted(
            len(people.merchants[node::nodes]) + len(people.devices[node::nodes]) for node in range(nodes)
        )
        assert needed >= 2 and sum(carried[:needed]) >= cohort
