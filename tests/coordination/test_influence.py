"""What one participant adds is bounded by what it declared, in the norm that shares are clipped in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_aggregate import GOOD, TASK

from server.coordination.aggregate import RoundSum
from server.coordination.config import Participants
from server.coordination.influence import Influence

DECLARED = Influence(kind=Participants.MERCHANTS, shoppers=1000, merchants=10, declared={"small": 5})
ONE = replace(GOOD, participants=1)
ENTRIES = 400


def round_of(trust: str = "central", influence: Influence = DECLARED) -> RoundSum:
    """A round of 400 entries at clipping norm 1."""
    return RoundSum(task=replace(TASK, trust=trust), shapes={"devices": (ENTRIES,)}, influence=influence)


def test_many_small_entries_are_as_bad_as_one_large() -> None:
    """Every entry is below what five shoppers may add to one; together they are twice too long."""
    round_sum = round_of()
    round_sum.add("small", ONE, {"devices": np.full(ENTRIES, 10.0 / np.sqrt(ENTRIES))})
    assert round_sum.participants == 0
    assert "small: its contribution has norm 10, more than the 5" in round_sum.refused[0]
    round_sum.add("small", ONE, {"devices": np.full(ENTRIES, 5.0 / np.sqrt(ENTRIES))})
    assert round_sum.participants == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38, 1e300, 1000.0])
def test_what_no_honest_participant_sends_is_refused_by_name(bad: float) -> None:
    """Not finite, absurdly large, or a thousand times the update."""
    round_sum = round_of()
    value = np.zeros(ENTRIES)
    value[3] = bad
    round_sum.add("small", ONE, {"devices": value})
    assert round_sum.participants == 0
    assert round_sum.refused[0].startswith("small: ")


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_shares_of_declared_shoppers_always_fit(shoppers: int, seed: int) -> None:
    """Whatever the shoppers did, unit shares in single precision stay within the bound."""
    shares = np.random.default_rng(seed).standard_normal((shoppers, ENTRIES)).astype(np.float32)
    shares /= np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1e-9)
    round_sum = round_of()
    round_sum.add("small", ONE, {"devices": shares.sum(axis=0, dtype=np.float32)})
    assert round_sum.refused == []


def test_the_noise_of_trust_local_fits_and_a_large_update_beside_it_does_not() -> None:
    """The bound makes room for noise, and for no more than that."""
    noise = np.random.default_rng(1).standard_normal(ENTRIES)
    round_sum = round_of("local")
    round_sum.add("small", ONE, {"devices": noise})
    assert round_sum.refused == []
    round_sum.add("small", ONE, {"devices": noise + 10.0})
    assert "more than the" in round_sum.refused[0]


def test_an_undeclared_participant_may_have_every_shopper_of_the_federation() -> None:
    """Then its bound is the public number; a device is one shopper."""
    assert DECLARED.shoppers_behind("large") == 1000
    assert DECLARED.shoppers_behind("small", participants=7) == 5
    devices = replace(DECLARED, kind=Participants.SHOPPERS)
    assert devices.shoppers_behind("node 1", participants=3) == 3
    assert devices.shoppers_behind("node 1", participants=10**9) == 1000


def test_nobody_fills_the_minimum_cohort_alone() -> None:
    """A declared participant is one; an answer for more than there are is refused."""
    round_sum = round_of()
    round_sum.add("small", replace(ONE, participants=2), {"devices": np.zeros(ENTRIES)})
    round_sum.add("another", replace(ONE, participants=11), {"devices": np.zeros(ENTRIES)})
    assert round_sum.participants == 0
    assert "stands for 2 participants; at most 1" in round_sum.refused[0]
    assert "stands for 11 participants; at most 10" in round_sum.refused[1]
