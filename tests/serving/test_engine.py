"""Rankings from a snapshot: what every answer promises, and what each surface adds."""

from __future__ import annotations

from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.features import HISTORY_LIMIT, KINDS, Context, Histories, moments
from model.schema import Weights
from model.two_tower import encode_users, score
from server.errors import CatalogueError, CorruptVersion, NothingPromoted, UnknownItem, WrongModelVersion
from server.registry import Registry
from server.serving.engine import Engine, rank
from server.serving.profile import known_events
from server.serving.query import Basis, PastEvent, Ranking, RankQuery, ReasonKind, Surface, UserVector
from server.serving.snapshot import Snapshot

NOW = 1_700_000_000
HOME = RankQuery(surface=Surface.HOME, k=10, timestamp=NOW)


def bought(*items: int, kind: str = "purchase") -> list[PastEvent]:
    """Events of one kind, an hour apart, the last one newest."""
    return [
        PastEvent(item_id=f"item-{item:02d}", kind=kind, time=NOW - 3600 * (len(items) - place))
        for place, item in enumerate(items)
    ]


def ids(ranking: Ranking) -> list[str]:
    """The item ids of an answer, best first."""
    return [item.item_id for item in ranking.items]


item_names = st.one_of(st.integers(0, 59).map("item-{:02d}".format), st.sampled_from(["", "item-999", "删"]))
past_events = st.builds(
    PastEvent,
    item_id=item_names,
    kind=st.sampled_from(KINDS),
    time=st.one_of(st.none(), st.integers(0, 2 * NOW)),
)
queries = st.builds(
    RankQuery,
    surface=st.sampled_from(Surface),
    k=st.integers(1, 200),
    timestamp=st.integers(0, 2 * NOW),
    history=st.one_of(st.none(), st.lists(past_events, max_size=130)),
    stored=st.booleans(),
    words=st.sampled_from(["coffee", "tea 绿茶", "nothing", "brand1 tea"]),
    item_id=st.integers(0, 59).map("item-{:02d}".format),
    exclude_seen=st.booleans(),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries)
def test_any_answer_has_known_items_none_twice_at_most_k_in_order(engine: Engine, query: RankQuery) -> None:
    """Whatever the surface, the history and k: the promises of `RankResponse.items` hold."""
    ranking = rank(engine.snapshot, query)
    names = ids(ranking)
    assert len(names) == len(set(names)) <= query.k
    assert set(names) <= set(engine.snapshot.catalogue.item_ids)
    scores = [item.score for item in ranking.items]
    assert scores == sorted(scores, reverse=True)
    assert all(item.reason.text for item in ranking.items)
    known = [event for event in query.history or () if event.item_id in engine.snapshot.catalogue.index]
    assert ranking.unknown_history_items == len(query.history or ()) - len(known)
    added = query.surface is Surface.CART
    distinct = {(event.item_id, event.kind) for event in known}
    distinct |= {(query.item_id, "add_to_cart")} if added else set()
    assert ranking.dropped_history_events == len(known) + added - min(HISTORY_LIMIT, len(distinct))
    if query.surface is Surface.HOME and query.exclude_seen:
        assert not {event.item_id for event in known if event.kind == "purchase"} & set(names)
    if query.surface in (Surface.HOME, Surface.NEW_ARRIVALS, Surface.PROMOTION) and not query.exclude_seen:
        assert len(names) == min(query.k, 60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries.filter(lambda query: query.surface is not Surface.SEARCH))
def test_a_reason_from_the_history_is_the_event_whose_removal_costs_the_item_most(
    engine: Engine, query: RankQuery
) -> None:
    """The deletion test: without the named cause the score falls, and by more than without any other."""
    query = replace(query, k=3, history=(query.history or [])[:20])
    for item in rank(engine.snapshot, query).items:
        if item.reason.kind is ReasonKind.HISTORY:
            assert item.reason.item_id != item.item_id
            losses = {
                cause: item.score - _score_without(engine.snapshot, query, cause, item.item_id)
                for cause in _positive_causes(engine.snapshot, query) - {item.item_id}
            }
            assert losses[item.reason.item_id] > 0
            assert losses[item.reason.item_id] == pytest.approx(max(losses.values()), abs=1e-4)


def _positive_causes(snapshot: Snapshot, query: RankQuery) -> set[str]:
    events = [event for event in query.history or () if event.kind not in ("dismiss", "return")]
    causes = {event.item_id for event in events if event.item_id in snapshot.catalogue.index}
    return causes | ({query.item_id} if query.surface is Surface.CART else set())


def _score_without(snapshot: Snapshot, query: RankQuery, cause: str, item_id: str) -> float:
    """The item's score from the two towers themselves, on the history without `cause`."""
    events = list(query.history or ())
    if query.surface is Surface.CART:
        events.append(PastEvent(item_id=query.item_id, kind="add_to_cart", time=query.timestamp))
    index = snapshot.catalogue.index
    events = [event for event in events if event.item_id in index and event.item_id != cause]
    times = [min(query.timestamp, query.timestamp if e.time is None else e.time) for e in events]
    order = sorted(range(len(events)), key=lambda row: times[row])
    history = Histories(
        np.array([0, len(events)]),
        np.array([index[events[row].item_id] for row in order], dtype=np.int32),
        np.array([KINDS.index(events[row].kind) for row in order], dtype=np.int8),
        np.array([times[row] for row in order], dtype=np.int64),
    )
    moment = moments([Context(surface=query.surface.value, timestamp=query.timestamp)])
    user = encode_users(snapshot.user_weights, snapshot.item_vectors, history.recent(), moment)
    return float(score(snapshot.user_weights, user, snapshot.item_vectors)[0, index[item_id]])


def test_home_orders_by_the_two_towers_and_leaves_out_purchases(
    engine: Engine, catalogue: pl.DataFrame, weights: Weights
) -> None:
    """The list equals sorting the scores of `model.two_tower` by hand."""
    snapshot = engine.snapshot
    ranking = rank(snapshot, replace(HOME, history=bought(3, 8)))
    history = Histories(
        np.array([0, 2]),
        np.array([3, 8], np.int32),
        np.array([2, 2], np.int8),
        np.array([NOW - 7200, NOW - 3600]),
    )
    user = encode_users(weights, snapshot.item_vectors, history, moments([Context(timestamp=NOW)]))
    by_hand = np.argsort(-score(weights, user, snapshot.item_vectors)[0], kind="stable")
    assert ids(ranking) == [f"item-{row:02d}" for row in by_hand if row not in (3, 8)][:10]
    assert ranking.basis is Basis.HISTORY
    assert ranking.model_version == snapshot.version


def test_a_purchase_older_than_what_the_tower_reads_is_still_left_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest events, here 100, make the profile; the whole given history says what was bought."""
    monkeypatch.setattr(Histories, "recent", partialmethod(Histories.recent, limit=100))
    monkeypatch.setattr("server.serving.engine.HISTORY_LIMIT", 100)
    events = [*bought(5), *bought(*range(55), kind="view"), *bought(*range(55), kind="rating")]
    events = [replace(event, time=NOW - 200 + place) for place, event in enumerate(events)]
    ranking = rank(engine.snapshot, replace(HOME, k=60, history=events))
    assert "item-05" not in ids(ranking)
    assert ranking.dropped_history_events == 11
    assert "only the newest 100 distinct events" in ranking.notices[0]


@pytest.mark.parametrize("history", [None, [], [PastEvent(item_id="unknown", kind="view")]])
def test_a_shopper_of_whom_nothing_is_known_gets_the_popular_items(
    engine: Engine, weights: Weights, history: list[PastEvent] | None
) -> None:
    """Cold start orders by the released counts alone, and says so."""
    ranking = rank(engine.snapshot, replace(HOME, history=history))
    expected = np.argsort(-weights["item_bias"], kind="stable")[:10]
    assert ids(ranking) == [f"item-{row:02d}" for row in expected]
    assert ranking.basis is Basis.COLD_START
    assert {item.reason.text for item in ranking.items} == {"popular with shoppers of this marketplace"}


def test_only_items_above_the_median_are_called_popular(engine: Engine, weights: Weights) -> None:
    """The tail of a long cold-start list does not claim popularity."""
    ranking = rank(engine.snapshot, replace(HOME, k=200))
    popular = [item for item in ranking.items if item.reason.text.startswith("popular")]
    assert len(popular) == 30
    assert min(item.score for item in popular) >= np.median(weights["item_bias"])


def test_one_more_event_changes_the_next_answer_at_once(engine: Engine) -> None:
    """Nothing is cached between a question and the next."""
    before = rank(engine.snapshot, replace(HOME, k=60, history=bought(3, kind="view")))
    after = rank(engine.snapshot, replace(HOME, k=60, history=bought(3, 40, kind="view")))
    assert ids(before) != ids(after)


def test_a_time_that_is_absent_or_in_the_future_counts_as_now_in_the_order_sent(engine: Engine) -> None:
    """A shopper's fast clock does not put an event before or after what was sent with it."""
    times = [NOW + 500, None, NOW - 5, NOW + 9, NOW - 5]
    events = [PastEvent(item_id=f"item-0{place}", kind="view", time=time) for place, time in enumerate(times)]
    past, unknown = known_events(events, engine.snapshot.catalogue.index, NOW)
    assert past.items.tolist() == [2, 4, 0, 1, 3]
    assert past.times.tolist() == [NOW - 5, NOW - 5, NOW, NOW, NOW]
    assert unknown == 0


def test_an_embedding_gives_the_list_of_the_history_it_was_made_from(engine: Engine) -> None:
    """A device that computes its own user vector gets the same order, without telling its events."""
    snapshot = engine.snapshot
    by_history = rank(snapshot, replace(HOME, history=bought(3, 8, kind="view")))
    history = Histories(
        np.array([0, 2]),
        np.array([3, 8], np.int32),
        np.array([0, 0], np.int8),
        np.array([NOW - 7200, NOW - 3600]),
    )
    values = snapshot.user_vectors(history, snapshot.moment(Surface.HOME, NOW))[0]
    vector = UserVector(values=values, model_version=snapshot.version)
    ranking = rank(snapshot, replace(HOME, embedding=vector))
    assert ids(ranking) == ids(by_history)
    assert ranking.basis is Basis.USER_EMBEDDING
    assert {item.reason.kind for item in ranking.items} == {ReasonKind.PROFILE}
    with pytest.raises(WrongModelVersion, match=snapshot.version):
        rank(snapshot, replace(HOME, embedding=replace(vector, model_version="f" * 16)))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("purchase", "you bought"), ("view", "you viewed"), ("add_to_cart", "you put")],
)
def test_the_reason_says_what_the_shopper_did_and_names_the_item(
    engine: Engine, kind: str, words: str
) -> None:
    """With one event there is only one possible cause, but of itself; an item without title goes by its id."""
    for cause, name in ((16, "dark coffee 16"), (19, "item-19")):
        ranking = rank(engine.snapshot, replace(HOME, history=bought(cause, kind=kind)))
        top = next(item.reason for item in ranking.items if item.item_id != f"item-{cause}")
        assert (top.kind, top.item_id) == (ReasonKind.HISTORY, f"item-{cause}")
        assert words in top.text
        assert name in top.text


def test_what_was_dismissed_or_returned_is_never_a_reason(engine: Engine) -> None:
    """`because you returned X` would be no recommendation."""
    events = [*bought(4, kind="return"), *bought(6, kind="dismiss")]
    ranking = rank(engine.snapshot, replace(HOME, k=60, history=events))
    assert {item.reason.kind for item in ranking.items} == {ReasonKind.PROFILE}
    assert "item-06" not in ids(ranking)


def test_search_lists_only_matches_and_a_full_match_never_loses_to_a_part(engine: Engine) -> None:
    """Coverage first, then the shopper's score among equals; the reason names the words."""
    query = replace(HOME, surface=Surface.SEARCH, words="dark coffee", k=60, history=bought(8, 16))
    ranking = rank(engine.snapshot, query)
    assert set(ids(ranking)) == {f"item-{row:02d}" for row in range(0, 60, 8)}
    assert ranking.items[0].reason.text == "matches 'dark', 'coffee'"
    assert {"item-08", "item-16"} <= set(ids(ranking)), "a search finds again what was bought"
    other = rank(engine.snapshot, replace(query, history=bought(33, 41)))
    assert ids(other) != ids(ranking), "among equal matches the shopper's score decides"
    mixed = rank(engine.snapshot, replace(query, words="绿茶 brand1"))
    full = [item for item in mixed.items if "'绿茶', 'brand1'" in item.reason.text]
    assert full and ids(mixed)[: len(full)] == [item.item_id for item in full]
    assert rank(engine.snapshot, replace(query, words="zzz")).items == []


def test_detail_lists_the_nearest_items_by_cosine_without_the_item_itself(engine: Engine) -> None:
    """Equal to sorting cosines by hand; an item that is not in the catalogue is named as unknown."""
    vectors = engine.snapshot.item_vectors
    cosines = vectors @ vectors[12] / np.linalg.norm(vectors, axis=1)
    expected = [f"item-{row:02d}" for row in np.argsort(-cosines, kind="stable") if row != 12][:5]
    query = replace(HOME, surface=Surface.DETAIL, k=5, item_id="item-12")
    ranking = rank(engine.snapshot, query)
    assert ids(ranking) == expected
    assert ranking.basis is Basis.NOT_USED
    assert ranking.items[0].reason.text == "similar to Earl Grey tea 12"
    assert len(rank(engine.snapshot, replace(query, k=200)).items) == 59
    with pytest.raises(UnknownItem):
        rank(engine.snapshot, replace(query, item_id="item-999"))


def test_cart_ranks_by_the_basket_and_leaves_the_basket_out(engine: Engine) -> None:
    """The item just added counts like the basket's other items."""
    basket = bought(3, kind="add_to_cart")
    query = replace(HOME, surface=Surface.CART, k=60)
    added = rank(engine.snapshot, replace(query, history=basket, item_id="item-08"))
    given = rank(
        engine.snapshot, replace(query, history=[*basket, PastEvent(item_id="item-08", kind="add_to_cart")])
    )
    assert ids(added) == ids(given)
    assert not {"item-03", "item-08"} & set(ids(added))
    assert "in your cart" in added.items[0].reason.text
    assert rank(engine.snapshot, replace(query, item_id="item-08")).basis is Basis.HISTORY


def test_flagged_surfaces_list_flagged_items_and_say_where_there_are_no_flags(
    engine: Engine, run_folder: Path, registry: Registry, catalogue: pl.DataFrame
) -> None:
    """With a column `promotion` only its items are listed; without one all are, with a notice."""
    query = replace(HOME, surface=Surface.PROMOTION, k=60)
    unflagged = rank(engine.snapshot, query)
    assert len(unflagged.items) == 60
    assert "no column promotion" in unflagged.notices[0]
    path = run_folder / "flagged.parquet"
    marks = pl.Series("promotion", [None if row == 7 else row % 6 == 0 for row in range(60)])
    catalogue.with_columns(marks).write_parquet(path)
    flagged = rank(Engine.load(registry, path).snapshot, query)
    assert set(ids(flagged)) == {f"item-{row:02d}" for row in range(0, 60, 6)}
    assert flagged.notices == ()
    assert flagged.items[0].reason.text.startswith("on promotion, popular")


def test_a_merchants_engine_knows_only_its_own_items(
    run_folder: Path, registry: Registry, engine: Engine
) -> None:
    """Other merchants' items are in no answer and no history; scores stay those of the whole model."""
    own = Engine.load(registry, run_folder / "catalogue.parquet", merchant_id="merchant-1")
    history = bought(1, 4, 5, kind="view")
    ranking = rank(own.snapshot, replace(HOME, k=60, history=history))
    assert {item.merchant_id for item in ranking.items} == {"merchant-1"}
    assert ranking.unknown_history_items == 1
    whole = rank(engine.snapshot, replace(HOME, k=60, history=bought(1, 4, kind="view")))
    assert len(whole.items) == 60
    own_times = [replace(event, time=NOW) for event in history]
    whole_times = [replace(event, time=NOW) for event in history[:2]]
    of_own = rank(own.snapshot, replace(HOME, k=60, history=own_times))
    of_whole = rank(engine.snapshot, replace(HOME, k=60, history=whole_times))
    expected = [(item.item_id, item.score) for item in of_whole.items if item.merchant_id == "merchant-1"]
    assert [item.item_id for item in of_own.items] == [name for name, _ in expected]
    np.testing.assert_allclose(
        [item.score for item in of_own.items], [value for _, value in expected], rtol=1e-5
    )
    with pytest.raises(CatalogueError, match="merchant-9"):
        Engine.load(registry, run_folder / "catalogue.parquet", merchant_id="merchant-9")


def test_a_version_from_data_without_clock_ignores_the_time_of_day(
    registry: Registry, run_folder: Path, weights: Weights
) -> None:
    """A card with `clock: order` keeps hour, season and age out of the towers."""
    clockless = registry.add(weights, {"clock": "order"}).version
    snapshot = Engine.load(registry, run_folder / "catalogue.parquet", version=clockless).snapshot
    events = [
        PastEvent(item_id="item-03", kind="view", time=1),
        PastEvent(item_id="item-08", kind="view", time=2),
    ]
    answers = [
        ids(rank(snapshot, replace(HOME, history=events, timestamp=at))) for at in (NOW, NOW + 12 * 3600)
    ]
    assert answers[0] == answers[1]
    with_clock = Engine.load(registry, run_folder / "catalogue.parquet").snapshot
    assert with_clock.moment(Surface.HOME, NOW).times.tolist() == [NOW]
    assert snapshot.moment(Surface.HOME, NOW).times.tolist() == [-1]


def test_promotion_is_taken_whole_and_a_pinned_engine_stays(
    engine: Engine, registry: Registry, run_folder: Path, weights: Weights
) -> None:
    """A snapshot in use is untouched by the swap; the same version again is no swap."""
    old = engine.snapshot
    pinned = Engine.load(registry, run_folder / "catalogue.parquet", version=old.version)
    assert engine.refresh() is False
    newer = registry.add({**weights, "item_bias": weights["item_bias"][::-1]}, {})
    assert engine.refresh() is False, "adding is not promoting"
    registry.promote(newer.version)
    assert engine.refresh() is True
    assert pinned.refresh() is False
    assert engine.snapshot.version == newer.version
    assert rank(old, HOME).model_version == pinned.snapshot.version == old.version
    assert ids(rank(old, HOME)) != ids(rank(engine.snapshot, HOME))


def test_a_corrupt_or_unfit_promotion_leaves_the_old_version_serving(
    engine: Engine, registry: Registry, run_folder: Path, weights: Weights
) -> None:
    """The fault is raised with its name, and answers go on."""
    old = engine.snapshot
    newer = registry.add({**weights, "gain": 2 * weights["gain"]}, {}).version
    registry.promote(newer)
    path = run_folder / "registry" / "versions" / newer / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(CorruptVersion):
        engine.refresh()
    registry.promote(registry.add({**weights, "item_bias": weights["item_bias"][:-1]}, {}).version)
    with pytest.raises(CatalogueError, match="does not fit the catalogue of 60 items: item_bias"):
        engine.refresh()
    assert engine.snapshot is old
    assert len(rank(engine.snapshot, HOME).items) == 10


def test_an_empty_registry_has_nothing_to_serve(run_folder: Path, tmp_path: Path) -> None:
    """The error says what to do."""
    with pytest.raises(NothingPromoted, match="promote one"):
        Engine.load(Registry(tmp_path / "empty"), run_folder / "catalogue.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop("brand"), "lacks the columns brand"),
        (lambda table: table.vstack(table[:2]), "repeats 2 item ids"),
        (
            lambda table: table.with_columns(merchant_id=pl.lit(None, pl.String)),
            "60 items without merchant_id",
        ),
        (lambda table: table[:0], "holds no item"),
    ],
)
def test_a_catalogue_that_cannot_be_ranked_is_refused_by_name(
    registry: Registry, tmp_path: Path, catalogue: pl.DataFrame, change: Any, message: str
) -> None:
    """Missing columns, repeated items, missing ids, emptiness."""
    change(catalogue).write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(CatalogueError, match=message):
        Engine.load(registry, tmp_path / "bad.parquet")


def test_a_catalogue_file_that_is_no_parquet_is_refused_by_name(registry: Registry, tmp_path: Path) -> None:
    """Also a missing one."""
    (tmp_path / "text.parquet").write_text("no parquet")
    for name in ("text.parquet", "missing.parquet"):
        with pytest.raises(CatalogueError, match=name):
            Engine.load(registry, tmp_path / name)
