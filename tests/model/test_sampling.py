"""Training examples: every draw is the shopper's own, and nothing held out or later leaks into one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from tower_world import START, histories_of, random_histories

from model.features import HISTORY_LIMIT, Histories
from model.sampling import (
    NEGATIVES,
    POSITIVE,
    TARGET_LIMIT,
    Examples,
    draw_examples,
    draw_negatives,
    mixed,
    uniforms,
)

ITEMS = 25
SURELY = 1e-6  # p-value below which a right distribution falls once in a million seeds; seeds here are fixed

Keys = NDArray[np.uint64]


def keys_of(random: np.random.Generator, shoppers: int) -> Keys:
    """Random keys, as pseudonyms give them."""
    return random.integers(0, 2**64, shoppers, dtype=np.uint64)


def examples_of(
    histories: Histories, keys: Keys, *, seed: int = 1, round_number: int = 1, clock: bool = True
) -> Examples:
    """Examples with negatives that are all equally likely."""
    even = np.full(ITEMS, 1 / ITEMS)
    return draw_examples(histories, keys, even, seed=seed, round_number=round_number, clock=clock)


cohorts = st.builds(
    lambda seed, shoppers, longest: random_histories(
        np.random.default_rng(seed), shoppers=shoppers, items=ITEMS, longest=longest
    ),
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.sampled_from([0, 1, 4, 150]),
)


@settings(max_examples=60, deadline=None)
@given(cohorts, st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_a_shopper_gets_the_same_example_in_any_cohort(
    histories: Histories, seed: int, round_number: int
) -> None:
    """Draws depend on (seed, round, shopper) alone: a part of the cohort in another order changes no row."""
    everyone = np.arange(len(histories))
    keys = keys_of(np.random.default_rng(seed), len(histories))
    chosen = np.random.default_rng(round_number).permutation(everyone)[: len(everyone) // 2 + 1]
    whole = examples_of(histories, keys, seed=seed, round_number=round_number)
    part = examples_of(histories.select(chosen), keys[chosen], seed=seed, round_number=round_number)
    np.testing.assert_array_equal(part.targets, whole.targets[chosen])
    np.testing.assert_array_equal(part.negatives, whole.negatives[chosen])
    np.testing.assert_array_equal(part.moments.codes, whole.moments.codes[chosen])
    np.testing.assert_array_equal(part.moments.times, whole.moments.times[chosen])
    assert part.histories.items.tolist() == whole.histories.select(chosen).items.tolist()


@given(cohorts, st.data())
def test_selected_examples_are_those_of_the_rows(histories: Histories, data: st.DataObject) -> None:
    """Any rows in any order: history, moment, targets and negatives stay together."""
    examples = examples_of(histories, keys_of(np.random.default_rng(1), len(histories)))
    rows = np.array(data.draw(st.lists(st.integers(0, len(histories) - 1), max_size=5)), dtype=np.int64)
    chosen = examples.select(rows)
    assert len(chosen) == len(rows)
    np.testing.assert_array_equal(chosen.targets, examples.targets[rows])
    np.testing.assert_array_equal(chosen.negatives, examples.negatives[rows])
    np.testing.assert_array_equal(chosen.moments.times, examples.moments.times[rows])
    np.testing.assert_array_equal(chosen.moments.codes, examples.moments.codes[rows])
    np.testing.assert_array_equal(chosen.histories.times, examples.histories.select(rows).times)


def test_another_seed_round_or_shopper_draws_anew() -> None:
    """No two of the three streams agree in more draws than chance allows."""
    keys = np.array([1, 2], dtype=np.uint64)
    base = uniforms(5, 7, keys, 1000)
    for other in (uniforms(6, 7, keys, 1000), uniforms(5, 8, keys, 1000), base[::-1]):
        assert not (base == other).any()
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.15
    np.testing.assert_array_equal(base, uniforms(5, 7, keys, 1000))


def test_the_stream_of_a_shopper_does_not_continue_that_of_the_next_key() -> None:
    """Neighbouring keys, seeds and rounds give unrelated numbers, not one stream that is shifted."""
    keys = np.arange(200, dtype=np.uint64)
    drawn = np.concatenate(
        [uniforms(seed, round_number, keys, 65) for seed in (0, 1) for round_number in (0, 1)]
    )
    assert len(np.unique(drawn)) == drawn.size


def test_uniforms_are_uniform_and_the_test_would_see_a_skew() -> None:
    """Kolmogorov-Smirnov accepts the draws over many shoppers, and rejects their power of 1.05."""
    drawn = uniforms(3, 1, np.arange(2000, dtype=np.uint64), 20).ravel()
    assert drawn.min() >= 0.0 and drawn.max() < 1.0
    assert stats.kstest(drawn, "uniform").pvalue > SURELY
    assert stats.kstest(drawn**1.05, "uniform").pvalue < SURELY


def test_splitmix_gives_the_published_numbers() -> None:
    """The first outputs of SplitMix64 from state 0, from the reference implementation of Vigna (2015)."""
    states = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert [hex(value) for value in mixed(states).tolist()] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def test_negatives_follow_the_public_probabilities() -> None:
    """Chi-square accepts the probabilities that were asked for and rejects ones that differ by a tenth."""
    random = np.random.default_rng(2)
    probabilities = random.dirichlet(np.full(ITEMS, 2.0))
    shoppers = 2000
    draws = uniforms(9, 3, keys_of(random, shoppers), NEGATIVES)
    nobody = histories_of(*([[]] * shoppers))
    seen = np.bincount(draw_negatives(draws, probabilities, nobody).ravel(), minlength=ITEMS)
    assert stats.chisquare(seen, probabilities * seen.sum()).pvalue > SURELY
    nearby = probabilities * np.where(np.arange(ITEMS) % 2, 1.05, 0.95)
    assert stats.chisquare(seen, nearby / nearby.sum() * seen.sum()).pvalue < SURELY


def test_the_edges_of_the_inverse_cdf_hit_the_first_and_the_last_likely_item() -> None:
    """A draw of 0 skips items of probability 0, and the largest draw stays inside the catalogue."""
    probabilities = np.array([0.0, 0.25, 0.0, 0.75])
    draws = np.array([[0.0, 0.2499, 0.25, 1.0 - 2**-53]])
    assert draw_negatives(draws, probabilities, histories_of([])).tolist() == [[1, 1, 3, 3]]


@settings(max_examples=60, deadline=None)
@given(cohorts, st.integers(0, 2**63 - 1))
def test_own_train_items_are_never_negatives_and_nothing_else_is_spared(
    histories: Histories, seed: int
) -> None:
    """A draw is masked exactly where the shopper's train events, of any kind and time, hold the item."""
    keys = keys_of(np.random.default_rng(seed), len(histories))
    draws = uniforms(seed, 1, keys, NEGATIVES)
    even = np.full(ITEMS, 1 / ITEMS)
    negatives = draw_negatives(draws, even, histories)
    unmasked = draw_negatives(draws, even, histories_of(*([[]] * len(histories))))
    for shopper in range(len(histories)):
        own = histories.select(np.array([shopper])).items
        np.testing.assert_array_equal(negatives[shopper] < 0, np.isin(unmasked[shopper], own))
        kept = negatives[shopper] >= 0
        np.testing.assert_array_equal(negatives[shopper][kept], unmasked[shopper][kept])


def test_held_out_items_are_drawn_as_often_as_any_other() -> None:
    """Who splits a test item off must find it among the negatives, or the test set would leak."""
    held_out = 3
    train = histories_of([(0, "purchase", START), (1, "purchase", START + 1), (2, "view", START + 2)])
    keys = np.zeros(1, dtype=np.uint64)
    counts = np.zeros(ITEMS, dtype=np.int64)
    for round_number in range(300):
        drawn = examples_of(train, keys, round_number=round_number).negatives
        counts += np.bincount(drawn[drawn >= 0], minlength=ITEMS)
    assert counts[:3].tolist() == [0, 0, 0]
    others = counts[3:]
    assert abs(counts[held_out] - others.mean()) < 5 * np.sqrt(others.mean())
    assert stats.chisquare(others).pvalue > SURELY


@settings(max_examples=80, deadline=None)
@given(cohorts, st.integers(0, 2**63 - 1), st.booleans())
def test_targets_lie_at_the_moment_and_the_history_strictly_before_it(
    histories: Histories, seed: int, clock: bool
) -> None:
    """Targets are the positive items of one moment, newest first; the history is what came before it."""
    keys = keys_of(np.random.default_rng(seed), len(histories))
    examples = examples_of(histories, keys, seed=seed, clock=clock)
    for shopper in range(len(histories)):
        own = histories.select(np.array([shopper]))
        past = examples.histories.select(np.array([shopper]))
        targets = examples.targets[shopper][examples.targets[shopper] >= 0]
        positive = POSITIVE[own.kinds]
        if not positive.any():
            assert not len(targets) and examples.moments.times[shopper] == -1
            continue
        fitting = [
            time
            for time in np.unique(own.times[positive])
            if own.items[positive & (own.times == time)][::-1][:TARGET_LIMIT].tolist() == targets.tolist()
            and past.times.max(initial=-1) < time
        ]
        assert fitting, "no moment of the shopper has these targets and an older history"
        assert len(past.items) <= HISTORY_LIMIT
        known = examples.moments.times[shopper]
        assert known in fitting if clock else known == -1


def test_the_history_is_everything_older_that_the_tower_reads() -> None:
    """Dismissed and returned items stay in the history, and only what lies at the moment or after is cut."""
    shopper = [(4, "dismiss", 1), (5, "return", 2), (6, "view", 3), (7, "dismiss", 3), (8, "dismiss", 9)]
    example = examples_of(histories_of(shopper), np.zeros(1, dtype=np.uint64))
    assert example.targets[0].tolist() == [6] + [-1] * (TARGET_LIMIT - 1)
    assert example.histories.items.tolist() == [4, 5]
    assert example.moments.times.tolist() == [3]


def test_dismissals_and_returns_are_never_targets() -> None:
    """A shopper who only refused things has no moment, no target and no clock; the negatives stay its own."""
    refused = [(1, "dismiss", -1), (2, "return", 5)]
    example = examples_of(histories_of(refused), np.zeros(1, dtype=np.uint64))
    assert (example.targets == -1).all()
    assert len(example.histories.items) == 0
    assert example.moments.codes[0, 1:].tolist() == [-1, -1, -1]


def test_a_moment_with_many_purchases_keeps_the_last_of_them() -> None:
    """More targets than the limit: the newest in the order of the store stay."""
    basket = [(item, "purchase", 50) for item in range(TARGET_LIMIT + 4)]
    example = examples_of(histories_of(basket), np.zeros(1, dtype=np.uint64))
    assert example.targets[0].tolist() == list(range(TARGET_LIMIT + 3, 3, -1))


def test_every_moment_is_equally_likely_however_much_happened_at_it() -> None:
    """Chi-square over many shoppers: a moment counts once, not once per event."""
    shopper = [(0, "view", 10), (1, "view", 20), (2, "view", 20), (3, "view", 20), (4, "purchase", 30)]
    shoppers = 6000
    keys = keys_of(np.random.default_rng(4), shoppers)
    times = examples_of(histories_of(*([shopper] * shoppers)), keys).moments.times
    seen = np.array([(times == time).sum() for time in (10, 20, 30)])
    assert seen.sum() == shoppers
    assert stats.chisquare(seen).pvalue > SURELY
    assert stats.chisquare(seen, shoppers * np.array([1, 3, 1]) / 5).pvalue < SURELY


def test_shoppers_of_one_moment_keep_their_own() -> None:
    """A shopper's only moment counts even where the shopper before it was last seen at the very same second."""
    examples = examples_of(
        histories_of([(4, "view", 3), (5, "view", 8)], [(6, "view", 8)], [], [(7, "view", 8)]),
        np.arange(4, dtype=np.uint64),
    )
    assert examples.targets[1:, 0].tolist() == [6, -1, 7]
    assert examples.moments.times[1:].tolist() == [8, -1, 8]


@pytest.mark.parametrize("times", [(0, 1, 2), (-9, -5, -1)])
def test_a_moment_at_time_zero_or_before_1970_counts_like_any_other(times: tuple[int, int, int]) -> None:
    """Positions count from 0 where the data have no clock, and old records may lie before 1970."""
    shopper = [(item, "purchase", time) for item, time in enumerate(times)]
    shoppers = 300
    keys = keys_of(np.random.default_rng(6), shoppers)
    examples = examples_of(histories_of(*([shopper] * shoppers)), keys, clock=False)
    lengths = np.diff(examples.histories.indptr)
    assert (examples.targets[:, 0] == lengths).all(), "the target is the item after its history"
    assert set(lengths.tolist()) == {0, 1, 2}
