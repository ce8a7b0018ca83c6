"""What the endpoint needs from where shoppers' events are kept. The composition root provides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.serving.query import PastEvent, Surface


@dataclass(frozen=True, kw_only=True)
class FeedbackEvent:
    """An impression or an interaction, validated; `timestamp` in Unix seconds.

    An impression has `surface` and `rank`, perhaps a `propensity`, and no `kind`; an interaction has a `kind`
    of `model.features.KINDS`.
    """

    event_id: str
    ranking_id: str
    shopper: str
    item_id: str
    merchant_id: str
    timestamp: int
    kind: str | None = None
    quantity: float | None = None
    price: float | None = None
    surface: Surface | None = None
    rank: int | None = None
    propensity: float | None = None


class ProfileSource(Protocol):
    """Finds the stored events of a shopper."""

    def history(self, shopper: str) -> Sequence[PastEvent] | None:
        """The shopper's events, in any order, or None for an unknown shopper.

        Raises `server.errors.ProfileUnavailable` where stored events cannot be read now.
        """


class FeedbackSink(Protocol):
    """Stores events durably."""

    def record(self, batch: Sequence[FeedbackEvent]) -> int:
        """Store the events whose `event_id` is new, all or none, and return how many were.

        Raises `server.errors.FeedbackUnavailable` where they cannot be stored now.
        """
