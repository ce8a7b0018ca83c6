"""Trust `distributed` through the apps: a cohort's sum carries its shares, and the coordinator adds nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_world import catalogue, place, population, settings, trained, with_few_features
from numpy.typing import NDArray
from scipy import stats

from client.app import app as client_app
from privacy.plan import Stage, Trust
from proto.federation import DEVICES, MERCHANT_PART, Task
from server.coordination.aggregate import CohortTooSmall
from server.coordination.budget import Releaser, open_account, plan_of
from server.coordination.collecting import Collected, Shapes
from server.coordination.collectors import collector_of
from server.coordination.config import FederationConfig, Participants
from simulation.federated import RunConfig, run_config_of
from simulation.grid import InProcessGrid
from simulation.population import Population

SURELY = 1e-6
REPEATS = 15
ITEMS_OF_EACH = 15


def run_of(people: Population, folder: Path, **changes: Any) -> RunConfig:
    """The run configuration of a federation whose participants add shares."""
    wanted = settings(trust=Trust.DISTRIBUTED, **{"participants": Participants.SHOPPERS, **changes})
    return run_config_of(people, wanted, place(folder))


def counted(run: RunConfig, nodes: int, number: int, **changes: Any) -> Collected:
    """The sum of one round of counts over so many nodes."""
    config = FederationConfig.from_run_config(run)
    words: dict[str, Any] = {
        "release_id": f"toy/x/{number}-counts",
        "stage": str(Stage.COUNTS),
        "round": number,
        "model_hash": "h",
        "trust": str(config.trust),
        "clipping_norm": 1.0,
        "noise_multiplier": 2.0,
        "mu2": 0.25,
        "cap_mu2": 100.0,
        "steps": 1,
        "expected_shoppers": 30,
        "clock": True,
        "seed": 0,
        "noise_seed": -1,
        "minimum_cohort": config.minimum_cohort,
    }
    alone = config.participants is Participants.MERCHANTS
    names = [f"{MERCHANT_PART}m{place}" for place in range(4)]
    shapes: Shapes = {DEVICES: (4 * ITEMS_OF_EACH,)}
    if alone:
        shapes = dict.fromkeys(names, (ITEMS_OF_EACH,))
    grid = InProcessGrid(client_app, nodes=nodes, run_config=run)
    return collector_of(grid, config).collect(Task(**{**words, **changes}), shapes, {}, lambda: None)


def flat(collected: Collected) -> NDArray[np.float64]:
    """All parts of a sum, one after the other."""
    return np.concatenate([collected.totals[name] for name in sorted(collected.totals)])


def is_normal_with(std: float, draws: NDArray[np.float64]) -> bool:
    """Whether a chi-square test on the squares and one on the shape accept independent N(0, std^2)."""
    squares = float(np.square(draws / std).sum())
    tail = min(stats.chi2.cdf(squares, draws.size), stats.chi2.sf(squares, draws.size))
    return 2 * float(tail) > SURELY and float(stats.kstest(draws / std, "norm").pvalue) > SURELY


@pytest.mark.parametrize(
    ("kind", "nodes", "cohort"),
    [
        (Participants.MERCHANTS, 1, 4),
        (Participants.MERCHANTS, 4, 3),
        (Participants.SHOPPERS, 3, 97),
        (Participants.BOTH, 2, 40),
    ],
)
def test_a_sum_carries_the_shares_of_all_who_are_in_it(
    tmp_path: Path, kind: Participants, nodes: int, cohort: int
) -> None:
    """However many nodes carry them: z C sqrt(participants / minimum cohort), and nothing 20 % off on either side."""
    people = population(tmp_path, kind)
    run = run_of(people, tmp_path, participants=kind, minimum_cohort=cohort)
    exact = flat(counted(run, nodes, 999, trust="none", noise_multiplier=0.0, mu2=0.0, cap_mu2=0.0))
    sums = [counted(run, nodes, number) for number in range(REPEATS)]
    assert {one.participants for one in sums} == {people.participants}
    noise = np.concatenate([flat(one) - exact for one in sums])
    std = 2.0 * math.sqrt(people.participants / cohort)
    assert noise.size == REPEATS * 4 * ITEMS_OF_EACH
    assert is_normal_with(std, noise)
    assert not is_normal_with(1.2 * std, noise)
    assert not is_normal_with(0.8 * std, noise)


def test_a_sum_short_of_the_minimum_cohort_is_not_made(tmp_path: Path) -> None:
    """It would have less noise than its price says."""
    people = population(tmp_path, Participants.MERCHANTS)
    run = run_of(people, tmp_path, participants=Participants.MERCHANTS, minimum_cohort=5)
    with pytest.raises(CohortTooSmall, match="4 participants contributed, the minimum cohort is 5"):
        counted(run, 2, 1)


def test_the_coordinator_adds_nothing_and_knows_the_deviation(tmp_path: Path) -> None:
    """What it releases is the sum that it got; its learner is told z C sqrt(N / K)."""
    people = population(tmp_path)
    config = FederationConfig.from_run_config(run_of(people, tmp_path, minimum_cohort=30))
    plan = plan_of(config, open_account(config, catalogue(people)))
    releaser, total = Releaser(config, plan), np.arange(5.0)
    np.testing.assert_array_equal(releaser.released(Stage.COUNTS, total), total)
    release = plan.of(Stage.COUNTS)
    assert release.noise_multiplier is not None
    expected = release.noise_multiplier * release.clipping_norm * math.sqrt(people.participants / 30)
    assert releaser.noise_std(Stage.COUNTS) == pytest.approx(expected)


@pytest.mark.parametrize("kind", list(Participants))
def test_a_run_with_a_seed_repeats_and_states_its_shares(
    tmp_path: Path, kind: Participants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights twice, and a card that says what holds if some add no noise."""
    with_few_features(monkeypatch)
    people = population(tmp_path / "people", kind)
    wanted = settings(
        trust=Trust.DISTRIBUTED, participants=kind, minimum_cohort=3, noise_seed=5, basket_kinds="purchase"
    )
    first, again = (trained(people, wanted, tmp_path / name) for name in ("a", "b"))
    assert first.content_hash == again.content_hash
    other = settings(trust=Trust.DISTRIBUTED, participants=kind, minimum_cohort=3, noise_seed=6)
    assert trained(people, other, tmp_path / "c").content_hash != first.content_hash
    statement = first.card["privacy"]
    assert statement["trust"] == "distributed" and statement["mechanism"] == "discrete gaussian, in shares"
    assert statement["minimum_cohort"] == 3
    by_lying = {row["participants"]: row["epsilon"] for row in statement["if_silent"]}
    assert by_lying[0] == statement["epsilon"] <= 8.0
    assert by_lying[1] > by_lying[0]
