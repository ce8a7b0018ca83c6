"""The simulation bench: other simulators compute the same update, and what is missing is said."""

from __future__ import annotations

import importlib.util
from importlib import import_module

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.bench import simulation
from evaluation.bench.peers.measuring import cpu_seconds, measured, peak_gib
from evaluation.bench.peers.ours import clipped_sum
from evaluation.bench.peers.work import CLIPPING_NORM, FEWEST, TRAINED, ml_1m_work
from evaluation.bench.simulation import PFL, PeerFailed, Speed, distance_from_ours, run
from evaluation.bench.simulation_scale import private_round, statistics, world
from evaluation.errors import SettingsError
from evaluation.settings import Watch
from model.gradient import cohort_gradient

COHORT = 12


@pytest.mark.filterwarnings("ignore:Full backward hook is firing", "ignore:In CPU autocast")
@pytest.mark.parametrize("peer", ["ours", "plain_loop", "opacus_samples", "pfl_research"])
def test_a_simulator_computes_the_same_clipped_sum(peer: str) -> None:
    """To 1e-4 of the length of the whole update, over every parameter; and it is measured after that."""
    if peer == "pfl_research" and importlib.util.find_spec("pfl") is None:
        pytest.skip("pfl is not installed: pip install 'fedrank[bench]'")
    module = import_module(f"evaluation.bench.peers.{peer}")
    found = module.measure(ml_1m_work(), [np.arange(COHORT), np.arange(COHORT, 2 * COHORT)])
    assert found.sums.keys() == TRAINED
    assert distance_from_ours(found.sums, COHORT) < 1e-4
    assert len(found.cpu_seconds) == 1 and found.cpu_seconds[0] > 0 and found.peak_gib > 0


def test_the_comparison_sees_an_update_that_differs() -> None:
    """A sum that lost one shopper of twelve is far away; another set of parameters is refused."""
    work = ml_1m_work()
    short = clipped_sum(work, work.examples.part(0, COHORT - 1))
    assert distance_from_ours(short, COHORT) > 1e-2
    with pytest.raises(PeerFailed, match="a simulator trained"):
        distance_from_ours({"gain": short["gain"]}, COHORT)


def test_the_work_has_the_shape_of_movielens() -> None:
    """About 159 events per shopper, 1 to 20 targets, nearly all negatives there; some shoppers are clipped."""
    work = ml_1m_work()
    lengths = np.diff(work.examples.histories.indptr)
    assert 150 < lengths.mean() < 170 and lengths.min() == FEWEST
    targets = (work.examples.targets >= 0).sum(axis=1)
    assert targets.min() == 1 and targets.max() == 20
    assert (work.examples.negatives >= 0).mean() > 0.9
    gradient = cohort_gradient(work.weights, work.vectors, work.examples.part(0, 500), work.log_q)
    clipped = np.sqrt(gradient.squared_norms(TRAINED)) > CLIPPING_NORM
    assert 0.1 < clipped.mean() < 1.0


def test_a_simulator_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured: a table without the row would look complete."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pfl is not installed: make install-bench, or pip install"):
        run(quick=True, watch=Watch())


def test_a_simulator_that_fails_ends_the_bench_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer without a figure is no row."""
    broken = simulation.Peer(module="nobody", words="a broken one", cohort=2, rounds=1)
    with pytest.raises(PeerFailed, match=r"a broken one ended with code 2: .*invalid choice"):
        simulation._speed(broken, Watch())


def test_ratios_are_of_our_speed_to_theirs() -> None:
    """Twice their speed is a ratio of two, held against the target; equal work is held against 1e-4."""
    ours = Speed(simulation.OURS, 1000.0, 0.5, 0.0)
    rows = {row.measure: row for row in simulation._peer_rows([ours, Speed(PFL, 500.0, 1.0, 2e-4)])}
    assert rows["ours / pfl-research"].value == 2.0 and rows["ours / pfl-research"].met is False
    same = rows["largest relative distance of a simulator's clipped sum from ours"]
    assert same.value == 2e-4 and same.met is False


def test_every_round_but_the_first_is_measured() -> None:
    """The first round warms up; CPU time of the others is seen, and memory too."""
    random = np.random.default_rng(1)

    def step(cohort: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        return {"gain": random.random(3_000_000).astype(np.float32)}

    before = cpu_seconds()
    found = measured(step, [np.arange(1)] * 3)
    assert len(found.cpu_seconds) == 2 and min(found.cpu_seconds) > 0
    assert cpu_seconds() > before and peak_gib() > 0.01


def test_a_private_round_in_chunks_is_the_sum_over_all_and_noised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The streamed round does not depend on the size of a chunk but for its noise."""
    from evaluation.bench import simulation_scale

    given = world(300, 2_000)
    monkeypatch.setattr(simulation_scale, "NOISE_MULTIPLIER", 1e-9)
    whole = private_round(given, TRAINED)
    monkeypatch.setattr(simulation_scale, "CHUNK", 64)
    parts = private_round(given, TRAINED)
    assert whole.keys() == TRAINED
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, atol=1e-4, err_msg=name)
    monkeypatch.setattr(simulation_scale, "NOISE_MULTIPLIER", 1.0)
    noisy = private_round(given, TRAINED)["item_vectors"] - whole["item_vectors"]
    assert noisy.std() == pytest.approx(simulation_scale.CLIPPING_NORM, rel=0.05)
    statistics(given)
