"""A search: exact matches in tiers, taste inside a tier, what is close in meaning behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking_world import HOME, bought, ids, rank

from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import Policy, SurfacePolicy
from server.serving.query import ReasonKind, Surface

SEARCH = replace(HOME, surface=Surface.SEARCH, k=60)

words = st.sampled_from(["dark", "coffee", "tea", "绿茶", "红茶", "grey", "brand1", "zzz", "茶", "cups 12"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(words, min_size=1, max_size=4), k=st.integers(1, 60), seen=st.integers(0, 59))
def test_an_item_that_holds_more_of_the_words_never_stands_behind_one_that_holds_less(
    engine: Engine, wanted: list[str], k: int, seen: int
) -> None:
    """In English, Chinese and both at once, whatever the taste; what holds none comes after all that hold some."""
    query = replace(SEARCH, words=" ".join(wanted), k=k, history=bought(seen))
    ranking = rank(engine, query)
    matches = engine.snapshot.words.match(query.words)
    coverage = dict(zip(matches.items.tolist(), matches.coverage.tolist(), strict=True))
    shares = [coverage.get(item, 0.0) for item in ranking.items.tolist()]
    assert shares == sorted(shares, reverse=True)
    assert sum(share > 0 for share in shares) == min(k, len(coverage)), (
        "no match is missing while there is room"
    )


def test_taste_orders_equal_matches_and_what_was_bought_is_found_again(engine: Engine) -> None:
    """Eight items hold both words; another history gives another order of the same eight."""
    query = replace(SEARCH, words="dark coffee", history=bought(8, 16))
    first, second = rank(engine, query), rank(engine, replace(query, history=bought(33, 41)))
    exact = {f"item-{row:02d}" for row in range(0, 60, 8)}
    assert set(ids(first)[:8]) == set(ids(second)[:8]) == exact
    assert ids(first)[:8] != ids(second)[:8]
    assert first.reasons[0].kind is ReasonKind.QUERY


def test_items_close_in_meaning_follow_and_say_so(engine: Engine) -> None:
    """They hold none of the words, their vector is near that of the words, and their reason is another one."""
    ranking = rank(engine, replace(SEARCH, words="coffee"))
    matches = set(engine.snapshot.words.match("coffee").items.tolist())
    vague = [place for place, item in enumerate(ranking.items.tolist()) if item not in matches]
    assert vague and vague == list(range(len(matches), len(ranking.items)))
    assert {ranking.reasons[place].kind for place in vague} == {ReasonKind.MEANING}
    text = engine.snapshot.reader.read("coffee")
    assert text is not None
    vectors = engine.snapshot.index.vectors[ranking.items[vague], : engine.snapshot.dim]
    cosines = vectors @ text / np.linalg.norm(vectors, axis=1) / np.linalg.norm(text)
    assert cosines.min() >= 0.3 - 1e-5


@pytest.mark.parametrize("nonsense", ["zzzyx", "!!!", "不存在"])
def test_words_that_mean_nothing_here_find_nothing(engine: Engine, nonsense: str) -> None:
    """An empty list, and no error: a shop shows its own page for it."""
    assert ids(rank(engine, replace(SEARCH, words=nonsense))) == []


def test_filters_hold_in_a_search_too(engine: Engine) -> None:
    """Of all coffee only that of one merchant, and nothing hidden."""
    query = replace(SEARCH, words="coffee", merchants=["merchant-0"], hidden=["item-00"])
    listed = rank(engine, query).listed()
    assert listed and {item.merchant_id for item in listed} == {"merchant-0"}
    assert "item-00" not in {item.item_id for item in listed}


def test_a_very_large_tier_is_ranked_by_its_most_popular_items(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work of one search stays bounded."""
    monkeypatch.setattr("server.serving.found.LARGEST_LISTED", 5)
    listed = rank(engine, replace(SEARCH, words="tea", k=5)).items
    tea = engine.snapshot.words.match("tea").items
    popular = tea[np.argsort(-engine.snapshot.index.vectors[tea, -1])[:5]]
    assert set(listed.tolist()) == set(popular.tolist())


def test_of_a_tier_as_many_are_candidates_as_the_knobs_choose_from(
    run_folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many items hold the words; those that hold more are all there, and first."""
    monkeypatch.setattr("server.serving.engine.POOL", 12)
    policy = Policy(surfaces={Surface.SEARCH: SurfacePolicy(diversity=0.2)})
    engine = Engine.load(registry, run_folder / "catalogue.parquet", policy=policy)
    ranking = rank(engine, replace(SEARCH, words="dark coffee tea", k=3))
    assert ranking.candidates == 12 + 8
    ranking = rank(engine, replace(SEARCH, words="tea", k=3))
    assert ranking.candidates == 12
