"""A coordinator that dies at any point goes on where its journal ends, and overspends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from privacy.accountant import mu_of
from privacy.failpoints import FEDERATION_FAILPOINTS
from privacy.ledger_place import ledger_at
from privacy.ledger_records import CAP_TOLERANCE, ChargeRecord, ChargeState
from server.coordination.journal import CURRENT
from server.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
EPSILON, DELTA = 8.0, 1e-6

AFTER_NO_OFFER = [point for point in FEDERATION_FAILPOINTS["run"] if point != "run: version offered"]
CASES = [
    *((point, passes) for point in FEDERATION_FAILPOINTS["round"] for passes in (1, 2, ROUNDS)),
    *((point, 1) for point in AFTER_NO_OFFER),
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One killed and resumed run: its folder, and what the driver told."""

    folder: Path
    told: dict[str, Any]

    def charges(self) -> list[ChargeRecord]:
        """What the coordinator's account holds."""
        return ledger_at(self.folder / "ledger.db").charges()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Case]:
    """Every case, done by one process that forks."""
    place = tmp_path_factory.mktemp("resume")
    driver = Path(__file__).with_name("resume_driver.py")
    words = [word for point, passes in CASES for word in (point, str(passes))]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(driver), str(place), *words],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        (told["point"], told["passes"]): Case(folder=place / str(number), told=told)
        for number, told in enumerate(lines)
    }


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} {case[1]}")
def case(request: pytest.FixtureRequest, cases: dict[tuple[str, int], Case]) -> Case:
    """One of them."""
    return cases[request.param]


def lost_round(case: Case) -> bool:
    """Whether the kill came between the reservation of a round and the end of its entry."""
    points = FEDERATION_FAILPOINTS["round"]
    first, last = points.index("round: reserved"), points.index("journal: arrays written")
    return case.told["point"] in points[first : last + 1]


def test_a_killed_run_goes_on_and_asks_no_round_again_that_its_journal_holds(case: Case) -> None:
    """Every other round is asked; of a last round that was lost nothing is left to ask with, and the run ends."""
    told = case.told
    assert told["killed"]
    over = told["point"] == "run: journal finished"
    wanted = [number for number in range(1, ROUNDS + 1) if number not in told["journaled"]]
    if over or (lost_round(case) and told["passes"] == ROUNDS):
        wanted = []
    assert [task["round"] for task in told["asked_again"]] == wanted
    assert told["resumed"] is not over  # the next run of that federation has no budget
    assert not list((case.folder / "journal" / CURRENT).glob("0*"))
    assert Registry(case.folder / "registry").versions()


def test_a_killed_run_spends_what_was_lost_in_addition_and_never_more_than_the_cap(case: Case) -> None:
    """One price beside those of the released rounds at most; all of the budget is used, none of it twice."""
    cap = mu_of(EPSILON, DELTA) ** 2
    states = [record.state for record in case.charges()]
    lost = lost_round(case)
    ended_early = lost and case.told["passes"] == ROUNDS
    assert states.count(ChargeState.RESERVED) == int(lost)
    assert states.count(ChargeState.COMMITTED) == ROUNDS - int(ended_early)
    spent = sum(record.charge.mu2 for record in case.charges())
    assert spent <= cap * (1 + CAP_TOLERANCE)
    assert spent == pytest.approx(cap, rel=1e-9)


def test_a_resumed_run_never_asks_under_a_release_id_that_was_used(case: Case) -> None:
    """A participant that has charged its shoppers for a release refuses to answer it again."""
    first, second = ({task["release_id"] for task in case.told[name]} for name in ("asked", "asked_again"))
    assert not first & second


def test_replay_leads_the_learner_to_the_very_same_bits(case: Case) -> None:
    """What the killed process had learned after each round is what the second one learned from the journal."""
    before = sorted((case.folder / "rounds-before").glob("*.safetensors"))
    for path in before if case.told["point"] != "run: journal finished" else ():
        old, new = load_file(path), load_file(case.folder / "rounds" / path.name)
        assert old.keys() == new.keys()
        assert all(old[name].tobytes() == new[name].tobytes() for name in old)
    rounds = len({task["round"] for task in case.told["asked"]})
    assert len(before) >= rounds - 1


def test_the_version_of_a_resumed_run_states_everything_that_was_spent(case: Case) -> None:
    """Lost rounds count as spent before; the card's epsilon is the whole budget and no more."""
    registry = Registry(case.folder / "registry")
    (version,) = registry.versions()
    privacy = registry.card(version)["privacy"]
    assert privacy["epsilon"] == pytest.approx(EPSILON, rel=1e-6)
    released = sum(release["mu2"] for release in privacy["releases"])
    lost = [record.charge.mu2 for record in case.charges() if record.state is ChargeState.RESERVED]
    assert privacy["spent_before_mu2"] == pytest.approx(sum(lost), abs=1e-9)
    assert released + sum(lost) == pytest.approx(mu_of(EPSILON, DELTA) ** 2, rel=1e-9)
