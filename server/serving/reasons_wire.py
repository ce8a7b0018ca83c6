"""A reason as protobuf encodes it inside an answer."""

from __future__ import annotations

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.serving.items_wire import field, varint

_REASON, _TEXT, _ITEM = b"\x2a", b"\x12", b"\x1a"
_PREFIX = "REASON_KIND_"
_KINDS = {
    name.removeprefix(_PREFIX): b"\x08" + varint(number) for name, number in pb.ReasonKind.items() if number
}


def encoded_reason(kind: str, text: str, item_id: str) -> bytes:
    """The field `reason` of a `RankedItem`; `kind` is the name of a `ReasonKind` there."""
    said = _KINDS[kind] + field(_TEXT, text.encode())
    return field(_REASON, said + field(_ITEM, item_id.encode()) if item_id else said)
