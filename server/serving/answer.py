"""An answer as the bytes of a `RankResponse`.

Most of an answer is the same in every answer: the items' ids, merchants and titles are kept encoded, so an answer is
put together from pieces instead of being built as objects and encoded. A test holds it equal to what protobuf writes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.serving.items_wire import field, varint
from server.serving.promotions import Promotion
from server.serving.query import Basis, Reason, ReasonKind
from server.serving.ranking import Ranking

_RANKING_ID, _VERSION, _ITEM, _NOTICE, _PRIVACY = b"\x0a", b"\x12", b"\x1a", b"\x42", b"\x4a"
_REASON, _PROMOTION = b"\x2a", b"\x42"
_REASON_TEXT, _REASON_ITEM = b"\x12", b"\x1a"
_SCORE, _PROPENSITY = b"\x35", b"\x3d"
_UNKNOWN_EVENTS, _DROPPED_EVENTS = b"\x30", b"\x38"

_RANKS = [b"\x08" + varint(rank) for rank in range(1, 1001)]
_KINDS = {kind: b"\x08" + varint(pb.ReasonKind.Value(f"REASON_KIND_{kind.name}")) for kind in ReasonKind}
_BASES = {
    basis: b"\x20"
    + varint(pb.ProfileSource.Value(f"PROFILE_SOURCE_{basis.name}"))
    + (b"\x28\x01" if basis is Basis.COLD_START else b"")
    for basis in Basis
}
"""Profile source, and with it whether this is a cold start."""


def write_ranking(
    ranking: Ranking, ranking_id: str, *, show_scores: bool, notices: tuple[str, ...] = ()
) -> bytes:
    """Encode an answer; scores leave only where `show_scores` is set. `notices` come before its own."""
    pieces = [field(_RANKING_ID, ranking_id.encode()), field(_VERSION, ranking.model_version.encode())]
    pieces += _items(ranking, show_scores)
    pieces.append(_BASES[ranking.basis])
    if ranking.unknown_history_items:
        pieces.append(_UNKNOWN_EVENTS + varint(ranking.unknown_history_items))
    if ranking.dropped_history_events:
        pieces.append(_DROPPED_EVENTS + varint(ranking.dropped_history_events))
    pieces += [field(_NOTICE, notice.encode()) for notice in (*notices, *ranking.notices)]
    pieces.append(field(_PRIVACY, _privacy(ranking.snapshot.card)))
    return b"".join(pieces)


def _items(ranking: Ranking, show_scores: bool) -> list[bytes]:
    wire = ranking.snapshot.items.wire
    bodies = [rank + wire(item) for rank, item in zip(_RANKS, ranking.items.tolist(), strict=False)]
    if ranking.reasons:
        bodies = [body + _reason(reason) for body, reason in zip(bodies, ranking.reasons, strict=True)]
    if show_scores:
        bodies = _with_floats(bodies, _SCORE, ranking.scores.tolist())
    if ranking.propensities is not None:
        bodies = _with_floats(bodies, _PROPENSITY, ranking.propensities.tolist())
    for place, promotion in ranking.promotions.items():
        bodies[place] += field(_PROMOTION, _promotion(promotion))
    return [field(_ITEM, body) for body in bodies]


def _with_floats(bodies: list[bytes], tag: bytes, values: list[float]) -> list[bytes]:
    return [body + tag + struct.pack("<f", value) for body, value in zip(bodies, values, strict=True)]


def _reason(reason: Reason) -> bytes:
    encoded = _KINDS[reason.kind] + field(_REASON_TEXT, reason.text.encode())
    if reason.item_id:
        encoded += field(_REASON_ITEM, reason.item_id.encode())
    return field(_REASON, encoded)


def _promotion(promotion: Promotion) -> bytes:
    message = pb.Promotion(
        promotion_id=promotion.promotion_id,
        kind=promotion.kind,
        text=promotion.text,
        discount=promotion.discount,
        least_quantity=promotion.least_quantity,
    )
    if promotion.ends is not None:
        message.ends.FromSeconds(promotion.ends)
    return message.SerializeToString(deterministic=True)


def _privacy(card: Mapping[str, Any]) -> bytes:
    """What the version has cost its shoppers, as its card states; nothing where it states nothing."""
    stated = card.get("privacy") or {}
    message = pb.PrivacyStatement(
        epsilon=stated.get("epsilon"), delta=stated.get("delta") or 0.0, unit=stated.get("unit") or ""
    )
    return message.SerializeToString(deterministic=True)
