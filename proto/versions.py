"""The words of `query.version`: a signed model version that the coordinator hands to the nodes.

A message carries the record `version` and the arrays `weights`; the answer is a receipt of the round's words
(`proto.federation`) or an error. What a node does not find signed it does not keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from proto.federation import WireError

VERSION = "version"
WEIGHTS = "weights"

MAX_CARD_BYTES = 4 << 20
MAX_SIGNATURE_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class VersionOffer:
    """A model version without its weights.

    Attributes:
        version: its name in a registry.
        card: its card as it is stored, JSON.
        signature: the record of its signature, JSON.
    """

    version: str
    card: bytes
    signature: bytes

    def to_record(self) -> dict[str, str | bytes]:
        """Return the fields as a flat record."""
        return {"version": self.version, "card": self.card, "signature": self.signature}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Self:
        """Read an offer; `WireError` names a field that is missing, of another type or too long."""
        version = record.get("version")
        if not isinstance(version, str):
            raise WireError("field version of a VersionOffer is no text; update the coordinator")
        return cls(
            version=version,
            card=_bytes(record, "card", MAX_CARD_BYTES),
            signature=_bytes(record, "signature", MAX_SIGNATURE_BYTES),
        )


def _bytes(record: Mapping[str, object], name: str, most: int) -> bytes:
    value = record.get(name)
    if not isinstance(value, bytes) or len(value) > most:
        raise WireError(
            f"field {name} of a VersionOffer must be bytes, at most {most}; update the coordinator"
        )
    return value
