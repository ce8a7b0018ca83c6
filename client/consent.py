"""What a shopper allows: decisions for a purpose, opt-in, and how their history is written into one sealed record."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from client.errors import ClientError
from privacy.errors import DecryptionError
from privacy.schema import RECORD_VERSION

LONGEST_ORIGIN: Final = 200


class Purpose(StrEnum):
    """What a shopper's events may be used for; without a grant they are only kept, and shown to their owner."""

    TRAINING = "training"
    """They take part in rounds of the federation, under the budget."""
    PROFILE = "profile"
    """They make the profile by which the shopper's own rankings are ordered."""


class InvalidConsent(ClientError, ValueError):
    """A decision holds a value that no decision can have."""


class DamagedConsent(ClientError):
    """A record of consent does not open; it grants nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One decision: granted or withdrawn, when (seconds since 1970, UTC), and where it came from."""

    purpose: Purpose
    granted: bool
    time: int
    origin: str

    def __post_init__(self) -> None:
        """Refuse an origin that says nothing or too much."""
        if not (0 < len(self.origin) <= LONGEST_ORIGIN and self.origin.isprintable()):
            raise InvalidConsent(
                f"the origin of a consent has {len(self.origin)} characters; it needs 1..{LONGEST_ORIGIN} printable "
                "ones, such as 'settings page'"
            )


def is_granted(history: Iterable[Decision], purpose: Purpose) -> bool:
    """Tell whether the newest decision for a purpose grants it; without one it is not granted."""
    granted = False
    for decision in history:
        if decision.purpose is purpose:
            granted = decision.granted
    return granted


def encode(history: Sequence[Decision]) -> bytes:
    """Return the payload of a sealed record: all decisions, oldest first."""
    rows = [[str(one.purpose), one.granted, one.time, one.origin] for one in history]
    return json.dumps({"v": RECORD_VERSION, "decisions": rows}, ensure_ascii=False).encode()


def decode(payload: bytes) -> tuple[Decision, ...]:
    """Return the decisions inside a payload; `DecryptionError` if it has another form."""
    try:
        record = json.loads(payload)
        version, rows = record["v"], record["decisions"]
        history = tuple(
            Decision(purpose=Purpose(purpose), granted=bool(granted), time=int(time), origin=str(origin))
            for purpose, granted, time, origin in rows
        )
    except (ValueError, KeyError, TypeError):
        raise DecryptionError("a record of consent opened but holds no decisions in the known form") from None
    if version != RECORD_VERSION:
        raise DecryptionError(f"a record of consent has version {version}, not {RECORD_VERSION}")
    return history
