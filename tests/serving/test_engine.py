"""Rankings from an engine: what every answer promises, and what a swap of versions keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking_world import HOME, NOW, bought, ids, names, queries, rank, score_by_hand, user_of

from model.features import HISTORY_LIMIT
from model.schema import Weights
from server.errors import (
    CatalogueError,
    CorruptVersion,
    InvalidRequest,
    NothingPromoted,
    UnknownItem,
    WrongModelVersion,
)
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.query import Basis, Events, PastEvent, RankQuery, Surface, UserVector
from server.serving.ranking import Ranking
from server.serving.tower import Fused, Inputs


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries)
def test_any_answer_has_known_items_none_twice_none_barred_at_most_k(
    engine: Engine, query: RankQuery
) -> None:
    """Whatever the surface, the history, the filters and k: the promises of `RankResponse.items` hold."""
    ranking = rank(engine, query)
    listed = ranking.listed()
    assert len(listed) == len({item.item_id for item in listed}) <= query.k
    assert {item.item_id for item in listed} <= set(names(range(60))) - set(query.hidden)
    if query.surface is not Surface.NEW_ARRIVALS:
        assert ranking.scores.tolist() == sorted(ranking.scores.tolist(), reverse=True)
    assert all(item.reason is not None and item.reason.text for item in listed) or not query.reasons
    assert all(item.merchant_id in query.merchants for item in listed) or not query.merchants
    history, session = query.history or (), query.session
    assert not isinstance(history, Events) and not isinstance(session, Events)
    told = [*history, *session]
    known = [event for event in told if event.item_id in names(range(60))]
    added = query.surface is Surface.CART
    distinct = {(event.item_id, event.kind) for event in known}
    distinct |= {(query.item_id, "add_to_cart")} if added else set()
    assert ranking.unknown_history_items == len(told) - len(known)
    assert ranking.dropped_history_events == len(known) + added - min(HISTORY_LIMIT, len(distinct))
    if query.surface is Surface.HOME and query.exclude_seen:
        assert not {event.item_id for event in known if event.kind == "purchase"} & set(ids(ranking))
    if query.surface is Surface.HOME and not (query.exclude_seen or query.merchants or query.categories):
        assert len(listed) == min(
            query.k, 60 - len({item for item in query.hidden if item in names(range(60))})
        )


def test_a_question_at_fault_gets_its_error_and_the_others_one_call_of_the_tower(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown item, another version's embedding and an unknown segment among good questions."""
    vector = UserVector(values=np.zeros(8, dtype=np.float32), model_version="another")
    gone = replace(HOME, surface=Surface.DETAIL, item_id="gone")
    asked = [HOME, gone, replace(HOME, embedding=vector), replace(HOME, segment=999), replace(HOME, k=3)]
    calls: list[int] = []
    run = engine.snapshot.tower.run

    def counted(inputs: Inputs) -> Fused:
        calls.append(len(inputs.surface))
        return run(inputs)

    monkeypatch.setattr(engine.snapshot.tower, "run", counted)
    answers = engine.answer(asked)
    assert calls == [2]
    kinds = [type(answer) for answer in answers]
    assert kinds == [Ranking, UnknownItem, WrongModelVersion, InvalidRequest, Ranking]
    for place in (0, 4):
        answer = answers[place]
        assert isinstance(answer, Ranking)
        assert ids(answer) == ids(rank(engine, asked[place]))
    assert [type(answer) for answer in engine.answer([gone, gone])] == [UnknownItem, UnknownItem]
    with pytest.raises(UnknownItem):
        engine.rank(asked)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions=st.lists(queries, max_size=6))
def test_questions_answered_together_get_the_answers_they_get_alone(
    engine: Engine, questions: list[RankQuery]
) -> None:
    """One call of the tower and one of the index for all changes no list; scores differ by rounding at most."""
    for ranking, question in zip(engine.rank(questions), questions, strict=True):
        alone = rank(engine, question)
        np.testing.assert_allclose(ranking.scores, alone.scores, rtol=1e-4, atol=1e-4)
        assert len(set(ids(ranking)) & set(ids(alone))) >= 0.99 * len(alone.items)
        assert (ranking.basis, ranking.notices) == (alone.basis, alone.notices)


def test_home_orders_by_towers_and_fusion_and_leaves_out_purchases(engine: Engine, weights: Weights) -> None:
    """The list equals sorting by hand the scores of `model.two_tower` and `model.fusion`."""
    history = bought(3, 8)
    ranking = rank(engine, replace(HOME, history=history))
    by_hand = np.argsort(-score_by_hand(engine.snapshot, weights, Surface.HOME, history), kind="stable")
    assert ids(ranking) == [f"item-{row:02d}" for row in by_hand if row not in (3, 8)][:10]
    assert ranking.basis is Basis.HISTORY
    assert ranking.model_version == engine.snapshot.version


def test_what_is_done_in_the_session_counts_at_once_and_as_the_newest(
    engine: Engine, weights: Weights
) -> None:
    """It is part of the history and a profile of its own; the list equals the sum of both by hand."""
    history, session = bought(3, 8, kind="view"), bought(40, kind="add_to_cart")
    ranking = rank(engine, replace(HOME, k=60, history=history, session=session))
    by_hand = score_by_hand(engine.snapshot, weights, Surface.HOME, [*history, *session], session)
    np.testing.assert_allclose(ranking.scores, np.sort(by_hand)[::-1], rtol=1e-4, atol=1e-5)
    before = rank(engine, replace(HOME, k=60, history=history))
    assert ids(before) != ids(ranking)


@pytest.mark.parametrize("surface", [Surface.HOME, Surface.SEARCH, Surface.CART, Surface.PROMOTION])
def test_one_more_event_in_the_session_changes_any_kind_of_profile(engine: Engine, surface: Surface) -> None:
    """History, stored events, an embedding, a segment, or nothing at all: the next list knows of the event."""
    vector = UserVector(values=np.ones(8, np.float32), model_version=engine.snapshot.version)
    plain = replace(HOME, surface=surface, k=60, words="tea 绿茶 coffee", item_id="")
    told = bought(3, 8, kind="view")
    profiles: list[dict[str, Any]] = [
        {"history": told},
        {"history": told, "stored": True},
        {"embedding": vector},
        {"segment": 0},
        {},
    ]
    for profile in profiles:
        without = rank(engine, replace(plain, **profile))
        session = rank(engine, replace(plain, **profile, session=bought(21, kind="view")))
        assert ids(without) != ids(session), profile


def test_a_purchase_older_than_what_the_tower_reads_is_still_left_out(engine: Engine) -> None:
    """The newest 1,000 distinct events make the profile; the whole given history says what was bought."""
    kinds = ("view", "rating", "search", "add_to_cart", "return")
    events = [replace(event, time=NOW - 9000) for event in bought(5)]
    events += [
        PastEvent(item_id=f"item-{place % 60:02d}", kind=kinds[place // 60 % 5], time=NOW - 8000 + place)
        for place in range(10_000)
    ]
    ranking = rank(engine, replace(HOME, k=60, history=events))
    assert "item-05" not in ids(ranking)
    assert len(ranking.items) == 59
    assert ranking.dropped_history_events == 10_001 - 301


def test_more_distinct_events_than_the_tower_reads_are_cut_with_a_notice(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said in the answer: how many were not read, and which bound."""
    monkeypatch.setattr("server.serving.engine.HISTORY_LIMIT", 100)
    monkeypatch.setattr("server.serving.past.HISTORY_LIMIT", 100)
    events = [*bought(*range(55), kind="view"), *bought(*range(55), kind="rating")]
    ranking = rank(engine, replace(HOME, history=events))
    assert ranking.dropped_history_events == 10
    assert "only the newest 100 distinct events" in ranking.notices[0]


@pytest.mark.parametrize("history", [None, [], [PastEvent(item_id="unknown", kind="view")]])
def test_a_shopper_of_whom_nothing_is_known_gets_the_moment_and_the_popular(
    engine: Engine, weights: Weights, history: list[PastEvent] | None
) -> None:
    """Cold start orders by context and released counts, and says so."""
    ranking = rank(engine, replace(HOME, history=history))
    by_hand = score_by_hand(engine.snapshot, weights, Surface.HOME, [])
    assert ids(ranking) == names(np.argsort(-by_hand, kind="stable")[:10])
    assert ranking.basis is Basis.COLD_START


def test_an_embedding_gives_the_list_of_the_history_it_was_made_from(
    engine: Engine, weights: Weights
) -> None:
    """A device that computes its own user vector gets the same order, without telling its events."""
    history = bought(3, 8, kind="view")
    by_history = rank(engine, replace(HOME, history=history))
    values = user_of(engine.snapshot, weights, history, Surface.HOME)
    vector = UserVector(values=values, model_version=engine.snapshot.version)
    ranking = rank(engine, replace(HOME, embedding=vector))
    assert ids(ranking) == ids(by_history)
    assert ranking.basis is Basis.USER_EMBEDDING
    with pytest.raises(WrongModelVersion, match=engine.snapshot.version):
        rank(engine, replace(HOME, embedding=replace(vector, model_version="f" * 16)))


def test_a_segment_stands_in_for_a_history_that_nobody_told(engine: Engine) -> None:
    """Its list differs from the cold start and leans to its items; a history goes before it."""
    cold, segment = rank(engine, replace(HOME, k=60)), rank(engine, replace(HOME, k=60, segment=0))
    assert segment.basis is Basis.SEGMENT
    assert ids(cold) != ids(segment)
    told = replace(HOME, history=bought(3, kind="view"))
    assert ids(rank(engine, told)) == ids(rank(engine, replace(told, segment=0)))


def test_detail_lists_what_is_like_the_item_and_leans_to_the_shoppers_taste(
    engine: Engine, weights: Weights
) -> None:
    """The item is a session of one view; an own history is affinity. An item that is not here is named as unknown."""
    query = replace(HOME, surface=Surface.DETAIL, k=59, item_id="item-12")
    ranking = rank(engine, query)
    view = [PastEvent(item_id="item-12", kind="view", time=NOW)]
    by_hand = score_by_hand(engine.snapshot, weights, Surface.DETAIL, [], view)
    assert ids(ranking) == [name for name in names(np.argsort(-by_hand, kind="stable")) if name != "item-12"]
    assert ranking.basis is Basis.NOT_USED
    told = rank(engine, replace(query, history=bought(3, kind="view")))
    assert told.basis is Basis.HISTORY
    by_hand = score_by_hand(engine.snapshot, weights, Surface.DETAIL, bought(3, kind="view"), view)
    assert ids(told) == [name for name in names(np.argsort(-by_hand, kind="stable")) if name != "item-12"]
    assert len(rank(engine, replace(query, k=200)).items) == 59
    with pytest.raises(UnknownItem):
        rank(engine, replace(query, item_id="item-999"))


def test_cart_ranks_by_the_basket_and_leaves_the_basket_out(engine: Engine) -> None:
    """The item just added counts like the basket's other items."""
    basket = bought(3, kind="add_to_cart")
    query = replace(HOME, surface=Surface.CART, k=60)
    added = rank(engine, replace(query, session=basket, item_id="item-08"))
    now = PastEvent(item_id="item-08", kind="add_to_cart")
    assert ids(added) == ids(rank(engine, replace(query, session=[*basket, now])))
    assert not {"item-03", "item-08"} & set(ids(added))
    assert rank(engine, replace(query, item_id="item-08")).basis is Basis.SESSION
    sent = rank(engine, replace(query, history=basket))
    assert sent.basis is Basis.HISTORY and "item-03" not in ids(sent)


def test_a_merchants_engine_knows_only_its_own_items(
    run_folder: Path, registry: Registry, engine: Engine
) -> None:
    """Other merchants' items are in no answer and no history; scores stay those of the whole model."""
    own = Engine.load(registry, run_folder / "catalogue.parquet", merchant_id="merchant-1")
    history = [replace(event, time=NOW) for event in bought(1, 4, 5, kind="view")]
    ranking = rank(own, replace(HOME, k=60, history=history))
    assert {item.merchant_id for item in ranking.listed()} == {"merchant-1"}
    assert ranking.unknown_history_items == 1
    whole = rank(engine, replace(HOME, k=60, history=history[:2]))
    assert len(whole.items) == 60
    expected = [(item.item_id, item.score) for item in whole.listed() if item.merchant_id == "merchant-1"]
    assert ids(ranking) == [name for name, _ in expected]
    np.testing.assert_allclose(ranking.scores, [value for _, value in expected], rtol=1e-4)
    with pytest.raises(CatalogueError, match="merchant-9"):
        Engine.load(registry, run_folder / "catalogue.parquet", merchant_id="merchant-9")


def test_a_version_from_data_without_clock_ignores_the_time_of_day(
    registry: Registry, run_folder: Path, weights: Weights
) -> None:
    """A card with `clock: order` keeps hour, season and age out of the towers."""
    clockless = registry.add(weights, {"clock": "order"}).version
    events = [
        PastEvent(item_id="item-03", kind="view", time=1),
        PastEvent(item_id="item-08", kind="view", time=2),
    ]
    moments = [replace(HOME, history=events, timestamp=at) for at in (NOW, NOW + 12 * 3600)]
    path = run_folder / "catalogue.parquet"
    first, second = Engine.load(registry, path, version=clockless).rank(moments)
    np.testing.assert_array_equal(first.scores, second.scores)
    first, second = Engine.load(registry, path).rank(moments)
    assert first.scores.tolist() != second.scores.tolist()


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
    assert rank(pinned, HOME).model_version == pinned.snapshot.version == old.version
    assert ids(rank(pinned, HOME)) != ids(rank(engine, HOME))


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
    assert len(rank(engine, HOME).items) == 10


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
