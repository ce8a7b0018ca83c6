"""From candidates to the list: what each knob promises, and which gives way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rerank_world import NOW, Scored, scored, world

from server.serving.exposure import Exposure, attention
from server.serving.policy import OFF, SurfacePolicy
from server.serving.rerank import Chosen, is_fresh, is_tail, rerank

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5])
policies = st.builds(
    SurfacePolicy,
    diversity=st.sampled_from([0.0, 0.3, 1.0]),
    category_quota=st.sampled_from([None, 1, 4]),
    merchant_quota=st.sampled_from([None, 1, 3]),
    long_tail_share=SHARES,
    fresh_share=SHARES,
    fairness=st.sampled_from([0.0, 0.5, 1.0]),
    exploration_share=st.sampled_from([0.0, 0.3]),
)


def listed(snapshot: Any, candidates: Any, policy: SurfacePolicy, k: int = 20, seed: str = "a") -> Chosen:
    """One list of an endpoint that owes nobody anything."""
    return rerank(snapshot, candidates, policy, k, Exposure(), seed, now=NOW)


def test_without_knobs_the_list_is_the_best_candidates_as_they_came() -> None:
    """The quick way changes nothing."""
    candidates = scored()
    chosen = listed(world(), candidates, OFF, k=7)
    assert chosen.items.tolist() == candidates.items[:7].tolist()
    assert chosen.scores.tolist() == candidates.scores[:7].tolist()
    assert chosen.propensities is None
    assert chosen.notices == ()


@settings(max_examples=200, deadline=None)
@given(policy=policies, seed=st.integers(0, 9), n=st.sampled_from([0, 1, 3, 40, 300]), k=st.integers(1, 30))
def test_any_list_keeps_what_its_knobs_promise_or_says_what_it_could_not(
    policy: SurfacePolicy, seed: int, n: int, k: int
) -> None:
    """Known items, none twice, as many as can be; quotas and floors hold, with exploration too."""
    snapshot, candidates = world(seed), scored(seed, n)
    chosen = listed(snapshot, candidates, policy, k, str(seed))
    items = chosen.items
    assert len(items) == len(set(items.tolist())) == min(k, n)
    by_item = dict(zip(candidates.items.tolist(), candidates.scores.tolist(), strict=True))
    assert [by_item[item] for item in items.tolist()] == chosen.scores.tolist()
    notices = " ".join(chosen.notices)
    for name, codes in (
        ("merchant", snapshot.items.merchant_codes),
        ("category", snapshot.items.category_codes),
    ):
        most = getattr(policy, f"{name}_quota")
        if most is not None and n and f"{name}_quota was relaxed" not in notices:
            assert max(Counter(codes[items].tolist()).values()) <= most
    for name, members in (
        ("fresh_share", is_fresh(snapshot, items, NOW)),
        ("long_tail_share", is_tail(snapshot, items)),
    ):
        if f"{name} asks" not in notices:
            assert members.sum() >= getattr(policy, name) * len(items) - 1e-6


@pytest.mark.parametrize("diversity", [0.2, 0.7, 1.0])
def test_diversity_is_maximal_marginal_relevance(diversity: float) -> None:
    """The list equals the textbook's loop over all pairs."""
    snapshot, candidates = world(3), scored(3, 60)
    relevance = (candidates.scores - candidates.scores.min()) / np.ptp(candidates.scores)
    vectors = snapshot.index.vectors[candidates.items, :-1]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected: list[int] = []
    while len(expected) < 10:
        values = {
            row: (1 - diversity) * relevance[row]
            - diversity * max((float(units[row] @ units[above]) for above in expected), default=0.0)
            for row in range(60)
            if row not in expected
        }
        expected.append(max(values, key=lambda row: values[row]))
    chosen = listed(snapshot, candidates, SurfacePolicy(diversity=diversity), k=10)
    assert chosen.items.tolist() == candidates.items[expected].tolist()


def test_a_quota_is_relaxed_only_as_far_as_filling_the_list_asks_for() -> None:
    """Eight items of one merchant and two of another: a list of six holds four and two, and says so."""
    snapshot = world()
    snapshot.items.merchant_codes[:] = 1
    candidates = scored(n=10)
    snapshot.items.merchant_codes[candidates.items[[4, 8]]] = 0
    chosen = listed(snapshot, candidates, SurfacePolicy(merchant_quota=2), k=6)
    assert chosen.items.tolist() == candidates.items[[0, 1, 4, 8, 2, 3]].tolist()
    assert chosen.notices == (
        "merchant_quota was relaxed from 2 to 4: the candidates could not fill the list otherwise",
    )
    assert listed(snapshot, candidates, SurfacePolicy(merchant_quota=2), k=4).notices == ()


def test_a_floor_holds_in_every_beginning_of_the_list() -> None:
    """A quarter of fresh items means one in the first four places, even where all are at the candidates' end."""
    snapshot, candidates = world(), scored()
    snapshot.items.listed_at[:] = 0
    snapshot.items.listed_at[candidates.items[-5:]] = NOW
    chosen = listed(snapshot, candidates, SurfacePolicy(fresh_share=0.25))
    fresh = np.cumsum(is_fresh(snapshot, chosen.items, NOW))
    assert (fresh >= np.arange(1, 21) // 4).all()
    assert fresh[-1] == 5
    assert np.setdiff1d(chosen.items, candidates.items[-5:]).tolist() == sorted(
        candidates.items[:15].tolist()
    )


def test_two_floors_are_both_met_where_no_item_serves_both() -> None:
    """A quarter fresh and three quarters from the tail leave no place for the best candidates, which are neither."""
    snapshot, candidates = world(), scored(n=60)
    best, fresh, tail = np.split(candidates.items, 3)
    snapshot.items.listed_at[:] = 0
    snapshot.items.listed_at[fresh] = NOW
    snapshot.index.vectors[:, -1] = 0
    head = [*best, *fresh, *np.setdiff1d(np.arange(500), candidates.items)[:60]]
    snapshot.index.vectors[head, -1] = 1
    chosen = listed(snapshot, candidates, SurfacePolicy(fresh_share=0.25, long_tail_share=0.75), k=12)
    assert chosen.notices == ()
    assert (np.isin(chosen.items, fresh).sum(), np.isin(chosen.items, tail).sum()) == (3, 9)


def test_a_floor_that_the_candidates_cannot_meet_is_told() -> None:
    """The list is filled, and a notice says how many there were."""
    snapshot, candidates = world(), scored()
    snapshot.items.listed_at[:] = 0
    chosen = listed(snapshot, candidates, SurfacePolicy(fresh_share=0.1))
    assert chosen.items.tolist() == candidates.items[:20].tolist()
    assert chosen.notices == ("fresh_share asks for 2 of 20 items; the candidates gave 0",)


def test_a_quota_goes_before_a_floor() -> None:
    """All fresh items are of one merchant, of which one may be listed."""
    snapshot, candidates = world(), scored()
    fresh = candidates.items[-4:]
    snapshot.items.listed_at[:] = 0
    snapshot.items.listed_at[fresh] = NOW
    snapshot.items.merchant_codes[:] = np.arange(500) % 9
    snapshot.items.merchant_codes[fresh] = 9
    chosen = listed(snapshot, candidates, SurfacePolicy(fresh_share=0.5, merchant_quota=1), k=6)
    assert len(set(snapshot.items.merchant_codes[chosen.items].tolist())) == 6
    assert chosen.notices == ("fresh_share asks for 3 of 6 items; the candidates gave 1",)


def test_an_item_of_unknown_age_is_fresh_only_where_the_catalogue_flags_it() -> None:
    """Days go before flags; a flag serves where there is no day."""
    snapshot = world()
    snapshot.items.listed_at[:5] = [NOW, 0, -1, -1, NOW + 1]
    snapshot.items.flags["new_arrival"] = np.array([False, True, True, False, True] + [False] * 495)
    assert is_fresh(snapshot, np.arange(5), NOW).tolist() == [True, False, True, False, False]


def test_the_tail_is_the_lower_four_fifths_of_the_released_counts() -> None:
    """It is a fifth of the catalogue that is no tail."""
    assert is_tail(world(), np.arange(500)).mean() == pytest.approx(0.8, abs=0.01)


def two_merchants(gap: float) -> tuple[Any, Scored]:
    """Ten items each of two merchants, one of which is `gap` better everywhere."""
    snapshot = world(items=21, merchants=2)
    snapshot.items.merchant_codes[:] = np.arange(21) % 2
    scores = np.append(1 - 0.01 * np.arange(20) - gap * (np.arange(20) % 2), 0.0).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return snapshot, Scored(order, scores[order])


def exposure_of(fairness: float, gap: float, lists: int = 300) -> float:
    """The share of all attention that the weaker of the two merchants got."""
    snapshot, candidates = two_merchants(gap)
    exposure, got = Exposure(), 0.0
    for _ in range(lists):
        chosen = rerank(snapshot, candidates, SurfacePolicy(fairness=fairness), 5, exposure, "", now=NOW)
        got += float(attention(5)[snapshot.items.merchant_codes[chosen.items] == 1].sum())
    return got / lists


def test_fairness_gives_merchants_the_exposure_that_their_merit_earns_over_many_lists() -> None:
    """A slightly weaker merchant is shut out of five places without it, and gets its 45 % of merit with it."""
    snapshot, candidates = two_merchants(0.15)
    weaker = snapshot.items.merchant_codes[candidates.items] == 1
    merit = float(candidates.scores[weaker].sum() / candidates.scores.sum())
    assert merit == pytest.approx(0.45, abs=0.005)
    assert exposure_of(0.0, 0.15) == 0.0
    assert exposure_of(0.5, 0.15) == pytest.approx(merit, abs=0.01)


def test_fairness_cannot_lift_an_item_over_one_that_is_better_by_twice_the_knob() -> None:
    """Whatever a merchant is owed, its bonus is bounded."""
    assert exposure_of(0.1, 0.45) == 0.0


def test_a_merchant_keeps_its_debt_when_the_catalogue_changes() -> None:
    """Codes are new, names stay; a new merchant is owed nothing."""
    exposure = Exposure()
    exposure.record(["a", "b"], np.array([0, 1]), np.array([1.0, 1.0]), np.array([0]))
    assert exposure.debts(["c", "b", "a"]).tolist() == [0.0, 0.5, -0.5]


def test_an_old_debt_counts_half_after_ten_thousand_lists() -> None:
    """What was long ago weighs less."""
    exposure, names = Exposure(), ["a", "b"]
    exposure.record(names, np.array([0, 1]), np.array([1.0, 1.0]), np.array([0]))
    for _ in range(10_000):
        exposure.record(names, np.array([0]), np.array([1.0]), np.array([0]))
    assert exposure.debts(names) == pytest.approx([-0.25, 0.25])


@settings(max_examples=100, deadline=None)
@given(policy=policies, seed=st.integers(0, 9), k=st.integers(1, 30))
def test_no_knob_lifts_an_item_over_one_of_a_higher_tier(policy: SurfacePolicy, seed: int, k: int) -> None:
    """What holds the words of a search stays before what is only close to them, drawn items too."""
    plain = scored(seed, 40)
    tiers = np.repeat([3, 2, 1, 0], [2, 5, 20, 13])
    places = np.arange(40, 0, -1) / 41
    candidates = Scored(plain.items, (tiers + places).astype(np.float32), tiers)
    chosen = listed(world(seed), candidates, policy, k, str(seed))
    tier_of = dict(zip(plain.items.tolist(), tiers.tolist(), strict=True))
    found = [tier_of[item] for item in chosen.items.tolist()]
    assert found == sorted(found, reverse=True)
    if not (policy.category_quota or policy.merchant_quota or policy.fresh_share or policy.long_tail_share):
        assert found == tiers[:k].tolist()
