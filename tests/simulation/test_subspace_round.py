"""The Gram inside a subspace through whole federations: whose directions, whose sums, and what is charged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federation_world import (
    MERCHANTS,
    events,
    items,
    place,
    population,
    settings,
    trained,
    with_few_features,
)
from numpy.typing import NDArray

from model.head import DAMPING, Basis
from model.spectral import SUBSPACE, GramBlock
from privacy.ledger_place import ledger_at
from privacy.plan import Stage, Trust
from server.coordination import budget
from server.coordination.budget import HOLDER
from server.coordination.config import Participants
from server.coordination.learner import Learner
from simulation.federated import plan_before, run_config_of

Blocks = list[list[GramBlock]]


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five content features in place of thousands."""
    with_few_features(monkeypatch)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    """What the learner is given: the blocks of the first Gram, then those of the second."""
    seen: Blocks = []
    honest = Learner.learn_gram

    def spied(self: Learner, blocks: list[GramBlock]) -> None:
        seen.append(blocks)
        honest(self, blocks)

    monkeypatch.setattr(Learner, "learn_gram", spied)
    return seen


class Silence:
    """Noise that is not there, so that sums can be compared."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(count)


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("kind", list(Participants))
def test_every_kind_of_federation_looks_twice_unless_nothing_is_hidden(
    tmp_path: Path, released: Blocks, kind: Participants, trust: Trust
) -> None:
    """Merchants alone have a block and a basis each, of their own items; all others share one of the whole head."""
    people = population(tmp_path, kind)
    version = trained(people, settings(participants=kind, trust=trust, rounds=1, noise_seed=5), tmp_path)
    assert len(released) == (1 if trust is Trust.NONE else 2)
    assert version.card["privacy"]["rounds"] == len(released) + 2
    owners = items()["merchant_id"].to_list()
    alone = kind is Participants.MERCHANTS
    for blocks in released:
        assert len(blocks) == (MERCHANTS if alone else 1)
        for block in blocks:
            assert len({owners[item] for item in block.head.items}) == (1 if alone else MERCHANTS)
    assert all(block.basis is None for block in released[0])
    for first, second in zip(*released, strict=True) if trust is not Trust.NONE else ():
        assert second.basis is not None
        assert second.basis.shape == (len(first.head), int(np.ceil(SUBSPACE * len(first.head))))
        np.testing.assert_allclose(
            np.abs(second.basis.T @ first.leading(3)[1]), np.eye(second.basis.shape[1], 3), atol=1e-3
        )
    assert np.isfinite(version.weights["item_id"]).all()


def histories_by_hand(block: GramBlock, per_merchant: bool) -> NDArray[np.float64]:
    """The dense y of every shopper (at one merchant, or at all) over the head items of a block."""
    liked = events().filter(events()["kind"] != "dismiss")
    unit = [liked["user_id"], liked["merchant_id"] if per_merchant else liked["kind"].str.slice(0, 0)]
    names = {f"i{item:03d}": column for column, item in enumerate(block.head.items.tolist())}
    rows = {pair: row for row, pair in enumerate(sorted(set(zip(*unit, strict=True))))}
    likes = np.zeros((len(rows), len(names)))
    for user, merchant, item in zip(*unit, liked["item_id"], strict=True):
        if item in names:
            likes[rows[user, merchant], names[item]] = 1.0
    direction = block.head.popularity ** (1 - DAMPING)
    q = direction / np.linalg.norm(direction)
    scaled = likes * block.head.popularity**-DAMPING
    return np.asarray(scaled - np.outer(scaled @ q, q))


def gram_by_hand(block: GramBlock, per_merchant: bool) -> NDArray[np.float64]:
    """The sum of y y^T / |y|^2 over all shoppers, or of z z^T / |z|^2 inside the basis of the block."""
    y = histories_by_hand(block, per_merchant)
    y = y[np.square(y).sum(axis=1) > 1e-9]
    z = y if block.basis is None else y @ block.basis
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    return np.asarray(unit.T @ unit)


@pytest.mark.parametrize("kind", [Participants.SHOPPERS, Participants.MERCHANTS])
def test_without_the_noise_both_grams_are_those_of_all_events(
    tmp_path: Path, released: Blocks, monkeypatch: pytest.MonkeyPatch, kind: Participants
) -> None:
    """From encrypted stores through messages to the learner, every shopper's share is in the sum once."""
    monkeypatch.setattr(budget, "SystemNoise", Silence)
    people = population(tmp_path, kind)
    trained(people, settings(participants=kind, trust=Trust.CENTRAL, rounds=0), tmp_path)
    for block in [*released[0], *released[1]]:
        np.testing.assert_allclose(block.gram, gram_by_hand(block, kind is Participants.MERCHANTS), atol=1e-6)
        assert np.trace(block.gram) > 20


@pytest.mark.parametrize("trust", [Trust.CENTRAL, Trust.LOCAL])
@pytest.mark.parametrize("kind", [Participants.SHOPPERS, Participants.MERCHANTS])
def test_a_block_knows_the_noise_that_lies_on_it(
    tmp_path: Path, released: Blocks, kind: Participants, trust: Trust
) -> None:
    """In both releases the entries off the diagonal deviate from the exact ones by the stated deviation."""
    people = population(tmp_path, kind)
    trained(people, settings(participants=kind, trust=trust, rounds=0, noise_seed=1), tmp_path)
    for blocks in released:
        noise = []
        for block in blocks:
            off = (block.gram - gram_by_hand(block, kind is Participants.MERCHANTS)) / block.noise_std
            noise.append(off[np.triu_indices(len(off), 1)])
        entries = np.concatenate(noise)
        assert entries.size >= 60
        assert abs(np.mean(entries**2) - 1.0) < 5 * np.sqrt(2 / entries.size)
    edges = [block.noise_std for blocks in released for block in blocks[:1]]
    assert edges[0] > edges[1] > 0  # the second has the larger share of the budget


def test_beside_devices_merchants_answer_in_the_shared_directions(
    tmp_path: Path, released: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every device and every shopper of every merchant adds a share of trace one to one and the same Gram."""
    monkeypatch.setattr(budget, "SystemNoise", Silence)
    people = population(tmp_path, Participants.BOTH)
    wanted = settings(participants=Participants.BOTH, trust=Trust.CENTRAL, rounds=0)
    trained(people, wanted, tmp_path)
    ((first,), (second,)) = released
    units = len(people.devices) + sum(len(people.shoppers_of(name)) for name in people.merchants)
    assert len(people.devices) < 0.9 * units
    assert 0.9 * units < np.trace(second.gram) <= np.trace(first.gram) + 1e-6 <= units + 2e-6


@pytest.mark.parametrize("trust", [Trust.CENTRAL, Trust.LOCAL])
@pytest.mark.parametrize("kind", list(Participants))
def test_every_stage_is_an_event_of_its_own_in_every_account(
    tmp_path: Path, kind: Participants, trust: Trust
) -> None:
    """Counts, Gram, Gram in the subspace and each gradient round: the coordinator's and every holder's."""
    people = population(tmp_path, kind)
    wanted, where = settings(participants=kind, trust=trust, rounds=2), place(tmp_path)
    plan = plan_before(run_config_of(people, wanted, where), people.participants)
    trained(people, wanted, tmp_path)
    ledger = ledger_at(where.ledger)
    stages = [(1, "counts"), (2, "gram"), (3, "subspace"), (4, "gradient"), (5, "gradient")]
    for holder in (HOLDER, *people.merchants, *(["devices"] if people.devices else [])):
        charges = [record.charge for record in ledger.charges(holder)]
        assert sorted({(charge.round, charge.stage) for charge in charges}) == stages
        assert len(charges) == len(stages)
        prices = {charge.stage: charge.mu2 for charge in charges}
        assert prices["subspace"] == pytest.approx(plan.of(Stage.SUBSPACE).mu2)
        assert prices["subspace"] != prices["gram"]


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("kind", list(Participants))
def test_a_public_basis_needs_no_gram_to_find_it(
    tmp_path: Path, released: Blocks, kind: Participants, trust: Trust
) -> None:
    """In axes of public content one release is enough: counts, the Gram inside them, gradients."""
    people, where = population(tmp_path, kind), place(tmp_path)
    wanted = settings(participants=kind, trust=trust, rounds=1, basis=Basis.CONTENT)
    version = trained(people, wanted, tmp_path)
    (blocks,) = released
    for block in blocks:
        assert block.basis is not None
        np.testing.assert_allclose(block.basis.T @ block.basis, np.eye(block.basis.shape[1]), atol=1e-4)
        np.testing.assert_allclose(block.head.popular @ block.basis, 0.0, atol=1e-4)
    assert np.isfinite(version.weights["item_id"]).all()
    stages = {(record.charge.round, record.charge.stage) for record in ledger_at(where.ledger).charges()}
    paid = {(1, "counts"), (2, "subspace"), (3, "gradient")}
    assert stages == (set() if trust is Trust.NONE else paid)
