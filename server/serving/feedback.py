"""Impressions and interactions from the wire, checked before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.ranking_bounds import MAX_ID_CHARACTERS
from server.errors import Violations
from server.serving.items import ItemTable
from server.serving.stores import FeedbackEvent
from server.serving.wire import (
    KINDS,
    SURFACES,
    check_length,
    check_range,
    read_kind,
    read_surface,
)

MAX_BATCH = 1000
MAX_RANK = 1_000_000
MAX_AMOUNT = 1e12
CLOCK_SKEW = 24 * 3600
"""Seconds that a caller's clock may be ahead of the endpoint's."""


def check_events(request: pb.RecordEventsRequest, now: int, first: int) -> None:
    """Raise `InvalidRequest`, naming every bad field, unless each event of the message can be stored.

    `first` is the place in the stream of the message's first event; `now` in Unix seconds.
    """
    bad = Violations()
    check_range(bad, "events", len(request.events), 1, MAX_BATCH, "events per message")
    for place, event in enumerate(request.events[:MAX_BATCH], start=first):
        _check(bad, f"events[{place}]", event, now)
    bad.refuse_any()


def read_events(events: Sequence[pb.Event], items: ItemTable) -> list[FeedbackEvent]:
    """Translate checked events; those whose item is not in the catalogue are left out."""
    rows = items.find([event.item_id for event in events]).tolist()
    return [_read(event, items.merchant_id(row)) for event, row in zip(events, rows, strict=True) if row >= 0]


def _check(bad: Violations, field: str, event: pb.Event, now: int) -> None:
    for name in ("event_id", "shopper", "item_id"):
        check_length(bad, f"{field}.{name}", getattr(event, name), 1, MAX_ID_CHARACTERS)
    check_length(bad, f"{field}.ranking_id", event.ranking_id, 0, MAX_ID_CHARACTERS)
    if not event.HasField("timestamp"):
        bad.note(f"{field}.timestamp", "is absent; send when it happened")
    unit = "seconds since 1970 (at most one day ahead of this endpoint's clock)"
    check_range(bad, f"{field}.timestamp", event.timestamp.seconds, 0, now + CLOCK_SKEW, unit)
    what = event.WhichOneof("what")
    if what == "impression":
        _check_impression(bad, f"{field}.impression", event.impression)
    elif what == "interaction":
        _check_interaction(bad, f"{field}.interaction", event.interaction)
    else:
        bad.note(field, "is neither; send an impression or an interaction")


def _check_impression(bad: Violations, field: str, impression: pb.Impression) -> None:
    read_surface(bad, f"{field}.surface", impression.surface)
    check_range(bad, f"{field}.rank", impression.rank, 1, MAX_RANK, "(1 is the first)")
    if impression.HasField("propensity") and not 0 < impression.propensity <= 1:
        problem = (
            f"is {impression.propensity:g}; send the propensity of the ranked item, above 0 and at most 1"
        )
        bad.note(f"{field}.propensity", problem)


def _check_interaction(bad: Violations, field: str, interaction: pb.Interaction) -> None:
    read_kind(bad, f"{field}.kind", interaction.kind)
    check_range(bad, f"{field}.quantity", interaction.quantity, 0, MAX_AMOUNT, "pieces")
    check_range(bad, f"{field}.price", interaction.price, 0, MAX_AMOUNT, "of the shop's currency")


def _read(event: pb.Event, merchant_id: str) -> FeedbackEvent:
    impression = event.impression if event.WhichOneof("what") == "impression" else None
    interaction = event.interaction
    return FeedbackEvent(
        event_id=event.event_id,
        ranking_id=event.ranking_id,
        shopper=event.shopper,
        item_id=event.item_id,
        merchant_id=merchant_id,
        timestamp=event.timestamp.seconds,
        kind=None if impression else KINDS[interaction.kind],
        quantity=interaction.quantity if interaction.HasField("quantity") else None,
        price=interaction.price if interaction.HasField("price") else None,
        surface=SURFACES[impression.surface] if impression else None,
        rank=impression.rank if impression else None,
        propensity=_propensity(impression),
    )


def _propensity(impression: pb.Impression | None) -> float | None:
    return impression.propensity if impression and impression.HasField("propensity") else None
