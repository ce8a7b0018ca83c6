"""An answer as the bytes of a `RankResponse`.

Most of an answer is the same in every answer: the items' ids, merchants and titles are kept encoded, so an answer is
put together from pieces instead of being built as objects and encoded. A test holds it equal to what protobuf writes.
"""

from __future__ import annotations

import struct
from weakref import WeakKeyDictionary

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.serving.items_wire import field, varint
from server.serving.promotions import Promotion
from server.serving.query import Basis
from server.serving.ranking import Ranking
from server.serving.snapshot import Snapshot
from server.serving.tower import UserTower

_RANKING_ID, _VERSION, _ITEM, _NOTICE, _PRIVACY = b"\x0a", b"\x12", b"\x1a", b"\x42", b"\x4a"
_PROMOTION = b"\x42"
_SCORE, _PROPENSITY = b"\x35", b"\x3d"
_UNKNOWN_EVENTS, _DROPPED_EVENTS = b"\x30", b"\x38"

_SHORT = [varint(size) for size in range(1 << 10)]
"""Lengths as protobuf writes them; nearly all are short."""
_RANKS = [b"\x08" + varint(rank) for rank in range(1, 1001)]
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
    pieces.append(_privacy(ranking.snapshot))
    return b"".join(pieces)


def _items(ranking: Ranking, show_scores: bool) -> list[bytes]:
    wire, items = ranking.snapshot.items.wire, ranking.items.tolist()
    told = [reason.encoded for reason in ranking.reasons] if ranking.reasons else [b""] * len(items)
    bodies = [rank + wire(item) + reason for rank, item, reason in zip(_RANKS, items, told, strict=False)]
    if show_scores:
        bodies = _with_floats(bodies, _SCORE, ranking.scores.tolist())
    if ranking.propensities is not None:
        bodies = _with_floats(bodies, _PROPENSITY, ranking.propensities.tolist())
    for place, promotion in ranking.promotions.items():
        bodies[place] += field(_PROMOTION, _promotion(promotion))
    return [_ITEM + _length(body) + body for body in bodies]


def _with_floats(bodies: list[bytes], tag: bytes, values: list[float]) -> list[bytes]:
    return [body + tag + struct.pack("<f", value) for body, value in zip(bodies, values, strict=True)]


def _length(content: bytes) -> bytes:
    size = len(content)
    return _SHORT[size] if size < len(_SHORT) else varint(size)


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


_stated: WeakKeyDictionary[UserTower, bytes] = WeakKeyDictionary()


def _privacy(snapshot: Snapshot) -> bytes:
    """What the version has cost its shoppers, as its card states; written once for each snapshot."""
    written = _stated.get(snapshot.tower)
    if written is None:
        stated = snapshot.card.get("privacy") or {}
        message = pb.PrivacyStatement(
            epsilon=stated.get("epsilon"), delta=stated.get("delta") or 0.0, unit=stated.get("unit") or ""
        )
        _stated[snapshot.tower] = written = field(_PRIVACY, message.SerializeToString(deterministic=True))
    return written
