"""Buckets are dealt at random, never too small, and their sums become one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.coordination.aggregate import CohortTooSmall
from server.coordination.buckets import MEDIAN_SPREAD, Buckets, BucketSum
from server.coordination.config import Combine


def names(count: int) -> list[str]:
    """So many participants."""
    return [f"m{number:04d}" for number in range(count)]


@given(st.integers(1, 1200), st.integers(1, 40), st.integers(2, 9), st.integers(0, 99))
def test_everybody_is_in_one_bucket_and_none_is_too_small_or_too_large(
    people: int, wanted: int, smallest: int, seed: int
) -> None:
    """Where there are enough for one sum; else the round is not asked."""
    buckets, cohort = Buckets(smallest=smallest, count=wanted), names(people)
    if people < smallest:
        with pytest.raises(CohortTooSmall, match=f"{people} nodes"):
            buckets.dealt(cohort, random.Random(seed))
        return
    dealt = buckets.dealt(cohort, random.Random(seed))
    assert sorted(name for bucket in dealt for name in bucket) == cohort
    sizes = [len(bucket) for bucket in dealt]
    assert smallest <= min(sizes) and max(sizes) <= 256 and max(sizes) - min(sizes) <= 1
    assert len(dealt) == max(min(wanted, people // smallest), -(-people // 256))
    assert all(list(bucket) == sorted(bucket) for bucket in dealt)


def test_who_meets_whom_is_drawn_anew() -> None:
    """Two rounds deal differently; one seed deals the same twice."""
    buckets, draw = Buckets(smallest=3, count=4), random.Random(7)
    first, second = buckets.dealt(names(20), draw), buckets.dealt(names(20), draw)
    assert first != second
    assert buckets.dealt(names(20), random.Random(7)) == first


def sums(*rows: tuple[float, int]) -> list[BucketSum]:
    """Bucket sums of two parts from a mean and a number of participants."""
    return [
        BucketSum(
            totals={"a": np.full(2, mean * count), "b": np.full((1, 3), -mean * count)}, participants=count
        )
        for mean, count in rows
    ]


def test_a_sum_adds_and_a_median_stands_for_all_participants() -> None:
    """Buckets of 2, 3 and 5: the middle mean times ten; spoiled buckets pull the sum and not the median."""
    three = sums((1.0, 2), (2.0, 3), (1e6, 5))
    added = Buckets(smallest=2).combined(three)
    assert added.participants == 10
    np.testing.assert_allclose(added.totals["a"], 5_000_008.0)
    middle = Buckets(smallest=2, count=3, combine=Combine.MEDIAN).combined(three)
    np.testing.assert_allclose(middle.totals["a"], 20.0)
    np.testing.assert_allclose(middle.totals["b"], np.full((1, 3), -20.0))
    with pytest.raises(CohortTooSmall, match="2 buckets have closed: a median of buckets takes 3"):
        Buckets(smallest=2, count=3, combine=Combine.MEDIAN).combined(three[:2])
    with pytest.raises(CohortTooSmall, match="0 buckets have closed"):
        Buckets(smallest=2).combined([])


@pytest.mark.parametrize("count", [3, 4, 5, 9, 31])
def test_the_stated_spread_of_a_median_is_not_too_small(count: int) -> None:
    """The noise that the learner is told of is at least that of the median, and at most a fifth more."""
    noise = np.random.default_rng(count).standard_normal((count, 40_000))
    found = np.std(np.median(noise, axis=0)) * np.sqrt(count)
    assert 0.99 * found <= MEDIAN_SPREAD <= 1.2 * found
