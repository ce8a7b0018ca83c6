"""Exploration: the propensity that is told is the probability with which the item came to its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rerank_world import NOW, scored, world
from scipy.stats import binom

from server.serving.exposure import Exposure
from server.serving.policy import SurfacePolicy
from server.serving.rerank import Chosen, rerank

SHARE, K, N, LISTS = 0.2, 4, 9, 20_000
POLICY = SurfacePolicy(exploration_share=SHARE)


def draw(seed: str, policy: SurfacePolicy = POLICY, k: int = K, n: int = N, snapshot: Any = None) -> Chosen:
    """The list of one ranking id."""
    return rerank(snapshot or world(), scored(n=n), policy, k, Exposure(), seed, now=NOW)


@pytest.fixture(scope="module")
def drawn() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """How often each candidate came to each place over many ranking ids, and with what told propensity; (N, K)."""
    row_of = {item: row for row, item in enumerate(scored(n=N).items.tolist())}
    snapshot = world()
    counts, told = np.zeros((N, K), dtype=np.int64), np.zeros((N, K))
    for number in range(LISTS):
        chosen = draw(f"ranking-{number}", snapshot=snapshot)
        assert chosen.propensities is not None
        rows = [row_of[item] for item in chosen.items.tolist()]
        counts[rows, range(K)] += 1
        told[rows, range(K)] = chosen.propensities
    return counts, told


def surprise(counts: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float:
    """The smallest two-sided p-value of all cells that can be drawn, times their number (Bonferroni)."""
    possible = probabilities > 0
    low = binom.cdf(counts[possible], LISTS, probabilities[possible])
    high = binom.sf(counts[possible] - 1, LISTS, probabilities[possible])
    return float(np.minimum(low, high).min() * 2 * possible.sum())


def test_the_told_propensity_is_the_share_of_lists_in_which_the_item_came_to_the_place(
    drawn: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
) -> None:
    """Over 20,000 ranking ids; at each place the propensities of all items sum to 1."""
    counts, told = drawn
    assert told.sum(axis=0) == pytest.approx(np.ones(K), abs=1e-6)
    assert surprise(counts, told) > 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param((1 - SHARE + SHARE / N, SHARE / N), id="as if the pool held the listed items"),
        pytest.param((0.82, 0.18 / (N - K)), id="a share of 18 %"),
        pytest.param((1 - SHARE, SHARE / (N - K + 1)), id="as if the pool were one larger"),
    ],
)
def test_a_nearby_wrong_propensity_would_be_noticed(
    drawn: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]], wrong: tuple[float, float]
) -> None:
    """The test above has the power to reject what a small mistake would tell."""
    counts, told = drawn
    nearby = np.where(told > 0.5, wrong[0], np.where(told > 0, wrong[1], 0.0))
    assert surprise(counts, nearby) < 1e-4


def test_a_retry_gives_the_same_list_and_another_ranking_another() -> None:
    """The request's id alone fixes what is drawn; where there is none, every list is drawn anew."""
    lists = {seed: draw(seed, k=20, n=300).items.tolist() for seed in ("a", "b", "c")}
    assert lists == {seed: draw(seed, k=20, n=300).items.tolist() for seed in ("a", "b", "c")}
    assert len({tuple(items) for items in lists.values()}) == 3
    assert len({tuple(draw("", k=20, n=300).items.tolist()) for _ in range(5)}) == 5


def test_a_drawn_item_is_marked_and_the_others_stand_where_they_would() -> None:
    """Exploration replaces; it moves nothing."""
    plain = scored(n=300).items[:20]
    chosen = draw("ranking", SurfacePolicy(exploration_share=0.5), k=20, n=300)
    assert chosen.drawn is not None and chosen.propensities is not None
    assert 0 < chosen.drawn.sum() < 20
    assert (chosen.items[~chosen.drawn] == plain[~chosen.drawn]).all()
    assert not np.isin(chosen.items[chosen.drawn], plain).any()
    assert chosen.propensities[~chosen.drawn] == pytest.approx(0.5)
    assert chosen.propensities[chosen.drawn] == pytest.approx(0.5 / 280)


@pytest.mark.parametrize(("n", "free"), [(5, 1), (4, 0), (2, 0)])
def test_where_few_candidates_are_left_only_the_lowest_places_explore(n: int, free: int) -> None:
    """What cannot be replaced is certain, and says so."""
    for number in range(30):
        chosen = draw(str(number), SurfacePolicy(exploration_share=0.5), n=n)
        assert chosen.propensities is not None
        certain = chosen.propensities == 1
        assert certain.tolist() == [True] * (min(n, K) - free) + [False] * free


def test_no_draw_breaks_a_quota_or_a_floor() -> None:
    """The pool holds only what any place may take, and a place that a floor needs does not explore."""
    policy = SurfacePolicy(exploration_share=0.5, merchant_quota=2, category_quota=3, fresh_share=0.2)
    snapshot = world()
    for number in range(200):
        chosen = draw(str(number), policy, k=10, n=300, snapshot=snapshot)
        assert chosen.notices == ()
        assert np.bincount(snapshot.items.merchant_codes[chosen.items]).max() <= 2
        assert np.bincount(snapshot.items.category_codes[chosen.items]).max() <= 3
        fresh = (NOW - snapshot.items.listed_at[chosen.items] <= 30 * 24 * 3600).sum()
        assert fresh >= 2
