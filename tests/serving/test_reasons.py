"""Reasons: each is true of what the ranking was computed from, and the deletion test says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking_world import parts_of, profile_of

from model.features import KINDS, POSITIVE_KINDS
from model.schema import Weights
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import Policy, SurfacePolicy
from server.serving.query import Basis, Events, PastEvent, RankQuery, ReasonKind, Surface, UserVector
from server.serving.ranking import RankedItem
from server.serving.reasons_causes import drops
from server.serving.words import words_of

NOW = 1_700_000_000
NAMES = [f"item-{row:02d}" for row in range(60)]
NAMED = (ReasonKind.HISTORY, ReasonKind.TOGETHER, ReasonKind.SIMILAR)

events = st.builds(
    PastEvent,
    item_id=st.sampled_from(NAMES[:25]),
    kind=st.sampled_from(KINDS),
    time=st.integers(NOW - 10**7, NOW),
)
surfaces = st.sampled_from([s for s in Surface if s is not Surface.SEARCH])
questions = st.builds(
    RankQuery,
    surface=surfaces,
    k=st.just(10),
    timestamp=st.just(NOW),
    history=st.lists(events, max_size=60),
    session=st.lists(events, max_size=5),
    item_id=st.sampled_from(NAMES[25:30]),
    exclude_seen=st.booleans(),
)


@pytest.fixture(scope="module", params=["pooling", "attention"])
def engine(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    catalogue: pl.DataFrame,
    weights: Weights,
) -> Engine:
    """A random model of either tower, with random complement vectors."""
    random = np.random.default_rng(3)
    more = {"complement": random.normal(0, 1.5, (len(NAMES), 4)).astype(np.float32)}
    if request.param == "attention":
        more["attention"] = random.normal(0, 0.5, weights["gain"].shape).astype(np.float32)
    return load(tmp_path_factory.mktemp(request.param), catalogue, {**weights, **more})


def load(
    folder: Path,
    catalogue: pl.DataFrame,
    weights: Weights,
    policy: Policy | None = None,
    basket_kinds: Sequence[str] = ("purchase",),
) -> Engine:
    """An engine over a run folder with these items and weights, which learned from baskets of these kinds."""
    catalogue.write_parquet(folder / "catalogue.parquet")
    registry = Registry(folder / "registry", unsigned=True)
    card = {"schema": {}, "learned": {"basket_kinds": list(basket_kinds)}}
    registry.promote(registry.add(weights, card).version)
    return Engine.load(registry, folder / "catalogue.parquet", policy=policy)


def listed(engine: Engine, query: RankQuery) -> list[RankedItem]:
    """One answer."""
    return engine.rank([query])[0].listed()


def scores(engine: Engine, query: RankQuery) -> Any:
    """(items,) scores without freshness, which no cause can change."""
    parts = parts_of(engine.snapshot, query)
    return engine.snapshot.index.vectors @ parts.query


def without(query: RankQuery, item_id: str) -> RankQuery:
    """The question as it would be had nothing been done with an item."""
    return replace(
        query,
        history=[event for event in told(query.history) if event.item_id != item_id],
        session=[event for event in told(query.session) if event.item_id != item_id],
        item_id="" if query.item_id == item_id else query.item_id,
    )


def told(events: Events | Sequence[PastEvent] | None) -> list[PastEvent]:
    """The events of a question one by one."""
    if isinstance(events, Events):
        return [
            PastEvent(item_id=item_id, kind=KINDS[kind], time=time)
            for item_id, kind, time in zip(events.item_ids, events.kinds, events.times, strict=True)
        ]
    return list(events or ())


def wanted(query: RankQuery) -> set[str]:
    """The items whose newest event, the session's being the newest, is no rejection."""
    newest = {
        event.item_id: event.kind
        for events in (told(query.history), told(query.session))
        for event in sorted(events, key=lambda event: event.time or NOW)
    }
    return {item_id for item_id, kind in newest.items() if kind in POSITIVE_KINDS}


def has_same_basket(query: RankQuery, item_id: str) -> bool:
    """Whether a cart without an item is still the rest of the same basket, and not the whole history instead."""
    left = [event for event in told(query.session) if event.item_id != item_id]
    return query.surface is not Surface.CART or bool(left) or query.item_id not in ("", item_id)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(query=questions)
def test_the_closed_form_is_what_asking_again_without_the_cause_gives(
    engine: Engine, query: RankQuery
) -> None:
    """For every item of the history and every item of the catalogue, on every surface, for both towers."""
    snapshot = engine.snapshot
    parts = parts_of(snapshot, query)
    causes = np.unique(profile_of(snapshot, query).read.items)
    lost = drops(snapshot, parts, causes, np.arange(60))
    before = scores(engine, query)
    for row, cause in enumerate(causes.tolist()):
        if has_same_basket(query, NAMES[cause]):
            after = scores(engine, without(query, NAMES[cause]))
            rounding = 1e-5 * max(1.0, float(np.abs(before).max()), float(np.abs(after).max()))
            assert lost.taste[row] + lost.together[row] == pytest.approx(before - after, abs=rounding)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=questions)
def test_the_named_cause_is_the_event_whose_removal_costs_the_item_most(
    engine: Engine, query: RankQuery
) -> None:
    """The deletion test: without the named cause the score falls, and further than without another."""
    before = scores(engine, query)
    positive = wanted(query)
    for item in listed(engine, replace(query, k=3)):
        if item.reason and item.reason.kind in NAMED and item.reason.item_id != query.item_id:
            row = NAMES.index(item.item_id)
            loss = {
                c: (before - scores(engine, without(query, c)))[row] for c in positive if c != item.item_id
            }
            if all(has_same_basket(query, cause) for cause in loss):
                rounding = 1e-5 * max(1.0, float(np.abs(before).max()))
                assert loss[item.reason.item_id] > 0
                assert loss[item.reason.item_id] == pytest.approx(max(loss.values()), abs=rounding)


def test_removing_the_named_cause_lowers_the_item_in_nine_of_ten_cases(engine: Engine) -> None:
    """Over 150 random questions of all surfaces, as the answer to the shortened question has it."""
    random = np.random.default_rng(1)
    lower = cases = 0
    for number in range(150):
        history = [
            PastEvent(item_id=NAMES[row], kind=KINDS[kind], time=NOW - int(age))
            for row, kind, age in zip(
                random.integers(0, 25, 12),
                random.integers(0, 5, 12),
                random.integers(0, 10**7, 12),
                strict=True,
            )
        ]
        surface = list(Surface)[number % 6]
        query = RankQuery(
            surface=surface,
            k=5,
            timestamp=NOW,
            history=history,
            item_id=NAMES[30],
            words="tea",
            exclude_seen=False,
        )
        before = {item.item_id: item.score for item in listed(engine, replace(query, k=60))}
        for item in listed(engine, query):
            if item.reason and item.reason.kind in NAMED and item.reason.item_id != query.item_id:
                after = {
                    other.item_id: other.score
                    for other in listed(engine, replace(without(query, item.reason.item_id), k=60))
                }
                cases += 1
                lower += after.get(item.item_id, -np.inf) < before[item.item_id]
    assert cases > 100
    assert lower / cases >= 0.9


def test_the_phrase_says_what_the_shopper_did_with_the_cause(engine: Engine) -> None:
    """The strongest of what was done is named, with the title."""
    for kind, words in (("purchase", "you bought"), ("add_to_cart", "you put"), ("view", "you viewed")):
        query = RankQuery(
            surface=Surface.HOME,
            k=10,
            timestamp=NOW,
            history=[
                PastEvent(item_id="item-03", kind="view", time=NOW - 5),
                PastEvent(item_id="item-03", kind=kind, time=NOW - 9),
            ],
        )
        texts = {
            i.reason.text for i in listed(engine, query) if i.reason and i.reason.kind is ReasonKind.HISTORY
        }
        assert {text.split(" 红茶")[0] for text in texts} == {f"because {words}"}


def did(*done: tuple[str, str]) -> list[PastEvent]:
    """Kinds and items, one a minute, the last of them a minute ago."""
    return [
        PastEvent(item_id=item_id, kind=kind, time=NOW - 60 * (len(done) - place))
        for place, (kind, item_id) in enumerate(done)
    ]


@pytest.mark.parametrize("history", ["dismiss", "return", "view dismiss", "purchase return", "view return"])
@pytest.mark.parametrize("surface", [Surface.HOME, Surface.DETAIL, Surface.CART])
def test_a_history_of_rejections_is_no_reason_for_anything(
    engine: Engine, surface: Surface, history: str
) -> None:
    """No item is listed because of what was sent back, nor as fitting such a history."""
    events = did(*[(kind, "item-03") for kind in history.split()])
    looked_at = "item-05" if surface is Surface.DETAIL else ""
    query = RankQuery(surface=surface, k=50, timestamp=NOW, history=events, item_id=looked_at)
    reasons = [item.reason for item in listed(engine, query) if item.reason]
    assert len(reasons) == 50
    assert {reason.item_id for reason in reasons} <= {"", looked_at}
    assert ReasonKind.PROFILE not in {reason.kind for reason in reasons}


@pytest.mark.parametrize("rejection", ["dismiss", "return"])
def test_the_next_strongest_cause_is_named_in_place_of_one_that_was_rejected(
    engine: Engine, rejection: str
) -> None:
    """What was rejected first and wanted again afterwards may be named, for what was done since."""
    refused = [("purchase", "item-03"), (rejection, "item-03")]
    for again, causes in ([], {"item-07"}), ([("view", "item-03")], {"item-03", "item-07"}):
        query = RankQuery(
            surface=Surface.HOME, k=50, timestamp=NOW, history=did(("view", "item-07"), *refused, *again)
        )
        reasons = [item.reason for item in listed(engine, query) if item.reason]
        named = [reason for reason in reasons if reason.kind is ReasonKind.HISTORY]
        assert {reason.item_id for reason in named} == causes
        assert all(reason.text.startswith("because you viewed ") for reason in named)


def test_cart_names_what_is_often_bought_with_something_in_it(engine: Engine) -> None:
    """Where the complement part counts more than taste does."""
    query = RankQuery(
        surface=Surface.CART,
        k=20,
        timestamp=NOW,
        session=[PastEvent(item_id=name, kind="add_to_cart") for name in NAMES[:4]],
    )
    reasons = [item.reason for item in listed(engine, query) if item.reason]
    together = [reason for reason in reasons if reason.kind is ReasonKind.TOGETHER]
    assert together
    assert all(reason.text.startswith("often bought with ") for reason in together)
    assert all(reason.text.endswith(" in your cart") for reason in together)
    assert {reason.item_id for reason in together} <= set(NAMES[:4])


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["purchase"], "often bought with "),
        (["view"], "often viewed with "),
        (["purchase", "view"], "often viewed with "),
        (["add_to_cart", "purchase"], "often put in a cart with "),
        (["rating"], "goes with "),
        ([], "goes with "),
    ],
)
def test_what_goes_together_is_called_bought_only_where_the_card_says_so(
    tmp_path: Path, catalogue: pl.DataFrame, weights: Weights, kinds: list[str], words: str
) -> None:
    """A model that learned from what was viewed in one visit knows nothing of what was bought."""
    learned = np.random.default_rng(3).normal(0, 1.5, (len(NAMES), 4)).astype(np.float32)
    engine = load(tmp_path, catalogue, {**weights, "complement": learned}, basket_kinds=kinds)
    session = [PastEvent(item_id=name, kind="add_to_cart") for name in NAMES[:4]]
    answer = listed(engine, RankQuery(surface=Surface.CART, k=20, timestamp=NOW, session=session))
    reasons = [item.reason for item in answer if item.reason]
    texts = [reason.text for reason in reasons if reason.kind is ReasonKind.TOGETHER]
    assert texts and all(text.startswith(words) for text in texts)


def test_detail_says_similar_or_often_bought_with_the_item_looked_at(engine: Engine) -> None:
    """Each as the larger part of the score says; both name the item."""
    query = RankQuery(surface=Surface.DETAIL, k=20, timestamp=NOW, item_id="item-04")
    snapshot = engine.snapshot
    parts = parts_of(snapshot, query)
    for item in listed(engine, query):
        assert item.reason is not None
        row = snapshot.index.vectors[NAMES.index(item.item_id)]
        taste, together = (parts.weights[which] * float(parts.pooled[which] @ row) for which in (1, 2))
        if taste + together > 1e-4:
            similar = taste >= together
            assert item.reason.kind is (ReasonKind.SIMILAR if similar else ReasonKind.TOGETHER)
            assert item.reason.text.startswith("similar to " if similar else "often bought with ")
            assert item.reason.item_id == "item-04"
        else:
            assert item.reason.item_id == ""


def test_search_names_the_words_that_the_item_holds(engine: Engine) -> None:
    """And says nothing of words where it holds none."""
    found = listed(engine, RankQuery(surface=Surface.SEARCH, k=60, timestamp=NOW, words="green tea"))
    texts = {item.item_id: words_of(item.title) for item in found}
    for item in found:
        assert item.reason is not None
        if item.reason.kind is ReasonKind.QUERY:
            words = item.reason.text.removeprefix("matches ").replace("'", "").split(", ")
            assert words == [word for word in ("green", "tea") if word in texts[item.item_id]]
        else:
            assert "tea" not in texts[item.item_id]


def test_cold_start_calls_popular_only_what_is(engine: Engine) -> None:
    """In the top fifth of its category, or of the marketplace, by the released counts."""
    snapshot = engine.snapshot
    prior = snapshot.index.vectors[:, -1]
    answer = engine.rank([RankQuery(surface=Surface.HOME, k=60, timestamp=NOW)])[0]
    assert answer.basis is Basis.COLD_START
    kinds = set()
    for item in answer.listed():
        assert item.reason is not None
        row = NAMES.index(item.item_id)
        same = snapshot.items.category_codes == snapshot.items.category_codes[row]
        if item.reason.kind is ReasonKind.POPULAR_CATEGORY:
            assert (prior[same] > prior[row]).mean() < 0.2
            assert item.reason.text == f"popular in {snapshot.items.category(row)}"
        else:
            popular = item.reason.text == "popular with shoppers of this marketplace"
            assert popular == ((prior > prior[row]).mean() < 0.2)
        kinds.add(item.reason.text.split(" ")[0])
    assert kinds == {"popular", "by"}
    assert not any("week" in item.reason.text for item in answer.listed() if item.reason)


def test_a_given_profile_or_segment_is_named_only_where_it_speaks_for_the_item(engine: Engine) -> None:
    """An item that it speaks against is there by the counts."""
    vector = np.eye(8, dtype=np.float32)[0]
    embedding = UserVector(values=vector, model_version=engine.snapshot.version)
    base = RankQuery(surface=Surface.HOME, k=60, timestamp=NOW)
    segment = engine.snapshot.segments
    for query, taste, kind in (
        (replace(base, embedding=embedding), vector, ReasonKind.PROFILE),
        (replace(base, segment=0), segment.centres[0], ReasonKind.SEGMENT),
    ):
        for item in listed(engine, query):
            assert item.reason is not None
            fits = float(engine.snapshot.index.vectors[NAMES.index(item.item_id), :8] @ taste)
            if abs(fits) > 1e-3:
                assert (item.reason.kind is kind) == (fits > 0)
            if item.reason.kind is ReasonKind.SEGMENT:
                assert item.reason.text == f"near the segment {segment.names[0]}"


def test_new_from_a_merchant_you_buy_from_needs_a_purchase_there(
    tmp_path: Path, catalogue: pl.DataFrame, weights: Weights
) -> None:
    """A view is not enough, and what is not new is not called so."""
    rows = np.arange(60)
    engine = load(
        tmp_path,
        catalogue.with_columns(listed_at=pl.Series(np.where(rows % 2, NOW - 86400, NOW - 90 * 86400))),
        weights,
    )
    query = RankQuery(
        surface=Surface.NEW_ARRIVALS,
        k=58,
        timestamp=NOW,
        history=[
            PastEvent(item_id="item-00", kind="purchase", time=NOW - 5),
            PastEvent(item_id="item-01", kind="view", time=NOW - 9),
        ],
    )
    for item in listed(engine, query):
        assert item.reason is not None
        new, bought = bool(NAMES.index(item.item_id) % 2), item.merchant_id == "merchant-0"
        assert (item.reason.text == "new from a merchant you buy from") == (new and bought)
        assert item.reason.text.startswith("new") == new


def test_an_explored_item_says_so(tmp_path: Path, catalogue: pl.DataFrame, weights: Weights) -> None:
    """Its cause is the draw and nothing of the shopper."""
    policy = Policy(surfaces={Surface.HOME: SurfacePolicy(exploration_share=0.5)})
    engine = load(tmp_path, catalogue, weights, policy)
    ranking = engine.rank([RankQuery(surface=Surface.HOME, k=20, timestamp=NOW, seed="a")])[0]
    assert ranking.propensities is not None
    explored = [reason.kind is ReasonKind.EXPLORATION for reason in ranking.reasons]
    assert explored == (ranking.propensities < 0.5).tolist()
    assert 0 < sum(explored) < 20
