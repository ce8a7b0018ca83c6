"""Answers as bytes: what protobuf would have written, whatever an answer holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking_world import HOME, bought, queries, rank

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.registry import Registry
from server.serving.answer import write_ranking
from server.serving.engine import Engine
from server.serving.promotions import Promotion
from server.serving.query import Basis, RankQuery, Reason, ReasonKind
from server.serving.ranking import RankedItem, Ranking


def by_protobuf(ranking: Ranking, ranking_id: str, *, show_scores: bool) -> pb.RankResponse:
    """The same answer made of protobuf's own classes."""
    stated = ranking.snapshot.card.get("privacy") or {}
    return pb.RankResponse(
        ranking_id=ranking_id,
        model_version=ranking.model_version,
        items=[_item(item, place, show_scores) for place, item in enumerate(ranking.listed(), start=1)],
        profile_source=f"PROFILE_SOURCE_{ranking.basis.name}",
        cold_start=ranking.basis is Basis.COLD_START,
        unknown_history_items=ranking.unknown_history_items,
        dropped_history_events=ranking.dropped_history_events,
        notices=ranking.notices,
        privacy=pb.PrivacyStatement(
            epsilon=stated.get("epsilon"), delta=stated.get("delta", 0.0), unit=stated.get("unit", "")
        ),
    )


def _item(item: RankedItem, place: int, show_scores: bool) -> pb.RankedItem:
    encoded = pb.RankedItem(
        rank=place,
        item_id=item.item_id,
        merchant_id=item.merchant_id,
        title=item.title,
        score=item.score if show_scores else None,
        propensity=item.propensity,
    )
    if item.reason is not None:
        kind = f"REASON_KIND_{item.reason.kind.name}"
        encoded.reason.CopyFrom(pb.Reason(kind=kind, text=item.reason.text, item_id=item.reason.item_id))
    if item.promotion is not None:
        promotion = item.promotion
        encoded.promotion.CopyFrom(
            pb.Promotion(
                promotion_id=promotion.promotion_id,
                kind=promotion.kind,
                text=promotion.text,
                discount=promotion.discount,
                least_quantity=promotion.least_quantity,
            )
        )
        if promotion.ends is not None:
            encoded.promotion.ends.FromSeconds(promotion.ends)
    return encoded


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries, ranking_id=st.text(min_size=1, max_size=300), show_scores=st.booleans())
def test_the_bytes_are_those_that_protobuf_writes(
    engine: Engine, query: RankQuery, ranking_id: str, show_scores: bool
) -> None:
    """Byte for byte, for any answer of any surface."""
    ranking = rank(engine, query)
    written = write_ranking(ranking, ranking_id, show_scores=show_scores)
    expected = by_protobuf(ranking, ranking_id, show_scores=show_scores)
    assert written == expected.SerializeToString(deterministic=True)


def test_long_texts_promotions_propensities_and_notices_are_written_too(engine: Engine) -> None:
    """What few answers hold: lengths above a byte and above the table, and every optional field."""
    ranking = rank(engine, replace(HOME, k=3, history=bought(3)))
    reasons = [Reason(kind=kind, text="x" * size, item_id="é" * size) for kind, size in REASONS]
    ends = Promotion(
        promotion_id="p", kind="coupon", text="two for one", discount=0.5, least_quantity=2, ends=9
    )
    ranking = replace(
        ranking,
        reasons=reasons,
        propensities=np.array([1.0, 0.25, 0.0], dtype=np.float32),
        promotions={0: ends, 2: Promotion(promotion_id="q", kind="display")},
        notices=("one", "two"),
    )
    written = write_ranking(ranking, "r", show_scores=True)
    assert written == by_protobuf(ranking, "r", show_scores=True).SerializeToString(deterministic=True)
    more = pb.RankResponse.FromString(write_ranking(ranking, "r", show_scores=True, notices=("first",)))
    assert list(more.notices) == ["first", "one", "two"]


REASONS = [(ReasonKind.EXPLORATION, 127), (ReasonKind.NEW, 128), (ReasonKind.HISTORY, 20_000)]


@pytest.mark.parametrize("epsilon", [3.5, None])
def test_an_answer_states_what_its_model_has_cost(
    registry: Registry,
    run_folder: object,
    engine: Engine,
    weights: dict[str, np.ndarray],
    epsilon: float | None,
) -> None:
    """As the version's card says; without protection there is no epsilon, and without a statement nothing."""
    nothing = pb.RankResponse.FromString(write_ranking(rank(engine, HOME), "r", show_scores=False))
    assert nothing.privacy == pb.PrivacyStatement()
    card = {"privacy": {"epsilon": epsilon, "delta": 1e-5, "unit": "shopper", "trust": "central"}}
    registry.promote(registry.add({**weights, "gain": 2 * weights["gain"]}, card).version)
    engine.refresh()
    stated = pb.RankResponse.FromString(write_ranking(rank(engine, HOME), "r", show_scores=False)).privacy
    assert stated == pb.PrivacyStatement(epsilon=epsilon, delta=1e-5, unit="shopper")
