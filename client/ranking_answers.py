"""What a shop gets back from the ranking endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proto.fedrank.ranking.v1 import ranking_pb2 as pb


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """Something off the price that is valid now. `discount` is a share of the price; `ends` in Unix seconds."""

    promotion_id: str
    kind: str
    text: str
    discount: float | None
    least_quantity: int | None
    ends: int | None


@dataclass(frozen=True, kw_only=True)
class RankedItem:
    """One place of a ranking; `reason` is a sentence part, `cause` the item behind it where there is one.

    Where the endpoint explores, send `propensity` back in the impression.
    """

    rank: int
    item_id: str
    merchant_id: str
    title: str
    reason: str
    reason_kind: str
    cause: str
    score: float | None
    propensity: float | None
    promotion: Promotion | None


@dataclass(frozen=True, kw_only=True)
class PrivacyStatement:
    """What the model has cost its shoppers; `epsilon` None: it was trained without protection."""

    epsilon: float | None
    delta: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """An answer of the endpoint; `ranking.proto` says what each field promises."""

    ranking_id: str
    model_version: str
    items: Sequence[RankedItem]
    profile_source: str
    cold_start: bool
    unknown_history_items: int
    dropped_history_events: int
    notices: Sequence[str]
    privacy: PrivacyStatement | None

    @classmethod
    def from_wire(cls, answer: pb.RankResponse) -> Ranking:
        """Read the protobuf form."""
        return cls(
            ranking_id=answer.ranking_id,
            model_version=answer.model_version,
            items=tuple(_ranked_item(item) for item in answer.items),
            profile_source=_word(pb.ProfileSource, "PROFILE_SOURCE_", answer.profile_source),
            cold_start=answer.cold_start,
            unknown_history_items=answer.unknown_history_items,
            dropped_history_events=answer.dropped_history_events,
            notices=tuple(answer.notices),
            privacy=_privacy(answer.privacy) if answer.HasField("privacy") else None,
        )


def _word(words: Any, prefix: str, number: int) -> str:
    """The word of an enum; one that a newer endpoint says and this client does not know is "unspecified"."""
    known = number if number in words.values() else 0
    return str(words.Name(known)).removeprefix(prefix).lower()


def _ranked_item(item: pb.RankedItem) -> RankedItem:
    return RankedItem(
        rank=item.rank,
        item_id=item.item_id,
        merchant_id=item.merchant_id,
        title=item.title,
        reason=item.reason.text,
        reason_kind=_word(pb.ReasonKind, "REASON_KIND_", item.reason.kind),
        cause=item.reason.item_id,
        score=item.score if item.HasField("score") else None,
        propensity=item.propensity if item.HasField("propensity") else None,
        promotion=_promotion(item.promotion) if item.HasField("promotion") else None,
    )


def _promotion(promotion: pb.Promotion) -> Promotion:
    return Promotion(
        promotion_id=promotion.promotion_id,
        kind=promotion.kind,
        text=promotion.text,
        discount=promotion.discount if promotion.HasField("discount") else None,
        least_quantity=promotion.least_quantity if promotion.HasField("least_quantity") else None,
        ends=promotion.ends.seconds if promotion.HasField("ends") else None,
    )


def _privacy(statement: pb.PrivacyStatement) -> PrivacyStatement:
    return PrivacyStatement(
        epsilon=statement.epsilon if statement.HasField("epsilon") else None,
        delta=statement.delta,
        unit=statement.unit,
    )
