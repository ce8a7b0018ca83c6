"""How many merchants a shopper buys from leaves under noise only, and every shopper pays for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation_world import MERCHANTS, population
from numpy.typing import NDArray

from privacy.errors import BudgetExceeded
from privacy.ledger_place import ledger_at
from privacy.ledger_records import ChargeState
from privacy.mechanism import SeededNoise
from privacy.plan import Plan, Stage, Trust, make_plan
from server.coordination.config import Participants
from simulation.linkage import released_linkage
from simulation.population import Population


class NoNoise:
    """A source that shows what is under the noise."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(count)


class BrokenNoise:
    """A machine that dies at the draw."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """Die."""
        raise KeyboardInterrupt


@pytest.fixture
def people(tmp_path: Path) -> Population:
    """Shoppers who take part through four merchants."""
    return population(tmp_path, Participants.MERCHANTS)


def plan(trust: Trust = Trust.CENTRAL) -> Plan:
    """A plan with a share for linkage."""
    return make_plan(trust=trust, epsilon=8.0, delta=1e-3, counts={Stage.LINKAGE: 1, Stage.COUNTS: 1})


@pytest.mark.parametrize(
    ("merchants", "expected"),
    [([1] * 95 + [3] * 5, 1), ([1] * 94 + [3] * 6, 3), ([4] * 10, 4), ([2], 2), ([1, 2, 3, 4] * 25, 4)],
)
def test_without_noise_it_is_the_percentile(
    people: Population, tmp_path: Path, merchants: list[int], expected: int
) -> None:
    """The smallest k that covers 95 % of the shoppers."""
    crowd = replace(people, merchants_per_shopper=np.array(merchants))
    ledger = ledger_at(tmp_path / "ledger.db")
    assert released_linkage(crowd, plan(), ledger, NoNoise()) == expected


def test_every_shopper_at_every_merchant_pays_once(people: Population, tmp_path: Path) -> None:
    """The plan's price of the stage, committed."""
    ledger = ledger_at(tmp_path / "ledger.db")
    found = released_linkage(people, plan(), ledger, SeededNoise(1))
    assert 1 <= found <= MERCHANTS
    for merchant in people.merchants:
        accounts = ledger.spent_by_subject(merchant)
        assert set(accounts) == set(people.shoppers_of(merchant))
        assert set(accounts.values()) == {plan().of(Stage.LINKAGE).mu2}
    assert {record.state for record in ledger.charges()} == {ChargeState.COMMITTED}


def test_noise_decides_what_few_shoppers_would(people: Population, tmp_path: Path) -> None:
    """One shopper cannot be read off the answer: among one shopper it varies with the noise."""
    crowd = replace(people, merchants_per_shopper=np.array([1]))
    ledger = ledger_at(tmp_path / "ledger.db")
    generous = replace(plan(), epsilon=1e4)
    found = {released_linkage(crowd, generous, ledger, SeededNoise(seed)) for seed in range(12)}
    assert len(found) > 1
    assert found <= set(range(1, MERCHANTS + 1))


def test_it_is_reserved_before_the_noise_and_stays_spent(people: Population, tmp_path: Path) -> None:
    """A crash at the draw leaves everybody charged."""
    ledger = ledger_at(tmp_path / "ledger.db")
    with pytest.raises(KeyboardInterrupt):
        released_linkage(people, plan(), ledger, BrokenNoise())
    assert people.spent_mu2(ledger) == plan().of(Stage.LINKAGE).mu2
    assert {record.state for record in ledger.charges()} == {ChargeState.RESERVED}


def test_it_is_refused_where_the_budget_is_used_up_and_never_released_bare(
    people: Population, tmp_path: Path
) -> None:
    """No budget, no histogram; no noise, no histogram."""
    ledger = ledger_at(tmp_path / "ledger.db")
    with pytest.raises(BudgetExceeded):
        released_linkage(people, replace(plan(), epsilon=0.01), ledger, NoNoise())
    with pytest.raises(ValueError, match="under noise only"):
        released_linkage(people, plan(Trust.NONE), ledger, NoNoise())
    assert ledger.charges() == []
