"""A participant that dies at any point of its answer costs its round at most, and its shoppers' budgets hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from federation_world import place, population, settings, with_few_features

from client.app import app as client_app
from privacy.accountant import mu_of
from privacy.failpoints import FEDERATION_FAILPOINTS, listen, no_failpoint
from privacy.ledger_place import ledger_at
from privacy.ledger_records import CAP_TOLERANCE, ChargeState
from privacy.plan import Trust
from server.coordination.app import MODEL
from server.coordination.app import app as server_app
from server.coordination.budget import HOLDER
from server.coordination.config import Participants
from simulation.federated import run_config_of
from simulation.grid import InProcessGrid, run_in_process

MERCHANTS = 4
EPSILON, DELTA = 8.0, 1e-6
SECOND_ROUND = MERCHANTS + 1
"""How often a point has been passed when the first node answers in the second round."""


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five content features in place of thousands; nobody listens at failpoints afterwards."""
    with_few_features(monkeypatch)
    yield
    listen(no_failpoint)


class Death(Exception):
    """The node's process ends."""


def dying_at(point: str) -> list[str]:
    """Let a node die the first time that it comes to a point in the second round; return the points passed."""
    passed: list[str] = []

    def at(name: str) -> None:
        passed.append(name)
        if name == point and passed.count(name) == SECOND_ROUND:
            raise Death

    listen(at)
    return passed


def charges_of(folder: Path) -> dict[str, list[tuple[float, ChargeState]]]:
    """What every account was charged, and whether it was noted that it left."""
    found: dict[str, list[tuple[float, ChargeState]]] = {}
    for record in ledger_at(folder / "ledger.db").charges():
        found.setdefault(record.charge.holder, []).append((record.charge.mu2, record.state))
    return found


def run(folder: Path, minimum_cohort: int) -> bool:
    """Run a federation of four merchants with a node each; return whether it made a version."""
    people = population(folder, Participants.MERCHANTS)
    wanted = settings(
        participants=Participants.MERCHANTS, trust=Trust.CENTRAL, minimum_cohort=minimum_cohort, delta=DELTA
    )
    words = run_config_of(people, wanted, place(folder))
    grid = InProcessGrid(client_app, nodes=MERCHANTS, run_config=words)
    return MODEL in run_in_process(server_app, grid, words).config_records


@pytest.mark.parametrize("point", FEDERATION_FAILPOINTS["answer"])
@pytest.mark.parametrize("minimum", [2, MERCHANTS])
def test_a_node_that_dies_costs_its_round_at_most(tmp_path: Path, point: str, minimum: int) -> None:
    """Above the minimum cohort the round goes on; else it is asked again with what is left of every account."""
    passed = dying_at(point)
    assert run(tmp_path, minimum)
    assert passed.count(point) > SECOND_ROUND
    found, cap = charges_of(tmp_path), mu_of(EPSILON, DELTA) ** 2
    void = int(minimum == MERCHANTS)
    assert [state for _, state in found[HOLDER]].count(ChargeState.RESERVED) == void
    for holder, charges in found.items():
        assert sum(mu2 for mu2, _ in charges) <= cap * (1 + CAP_TOLERANCE), holder
    most = max(sum(mu2 for mu2, _ in charges) for holder, charges in found.items() if holder != HOLDER)
    assert most <= sum(mu2 for mu2, _ in found[HOLDER]) * (1 + CAP_TOLERANCE)


def test_an_answer_passes_its_points_in_order(tmp_path: Path) -> None:
    """A bench that kills at them kills where they say."""
    passed = dying_at("")
    assert run(tmp_path, 2)
    answers = [name for name in passed if name.startswith("answer")]
    points = list(FEDERATION_FAILPOINTS["answer"])
    assert answers == points * (len(answers) // len(points)) and len(answers) > len(points)
