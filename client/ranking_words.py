"""What a shop asks the ranking endpoint and what it tells it, with their wire form; answers: `ranking_answers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from client.errors import ClientError, InvalidEvent
from model.features import KINDS
from proto.fedrank.ranking.v1 import ranking_pb2 as pb

EVENTS_PER_MESSAGE = 500


class InvalidQuestion(ClientError):
    """A question contradicts itself."""


class Surface(StrEnum):
    """Where a ranking appears."""

    HOME = "home"
    SEARCH = "search"
    DETAIL = "detail"
    CART = "cart"
    NEW_ARRIVALS = "new_arrivals"
    PROMOTION = "promotion"


@dataclass(frozen=True, kw_only=True)
class HistoryEvent:
    """What a shopper did: `kind` of `model.features.KINDS`; `time` in Unix seconds, None for now."""

    item_id: str
    kind: str
    time: int | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind here, before a call."""
        _check_kind(self.kind)


@dataclass(frozen=True, kw_only=True)
class UserEmbedding:
    """A user vector (dim,) with the model version whose item vectors it was computed from."""

    values: Sequence[float]
    model_version: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request for a ranking, with at most one of `shopper`, `history` and `embedding`.

    `timestamp` in Unix seconds, None for now. `request_id` None lets the client choose one, the same for each
    attempt, so that a retry joins one ranking.

    Attributes:
        session: what the shopper did just now and no profile holds yet; on cart, the basket.
        segment: number of a segment of the model version, where the caller knows that it fits.
        hidden: item ids never to list here.
        categories, merchants: only items of these; empty: of any.
        reasons: whether each item gets its reason, which costs time.
    """

    surface: Surface
    k: int = 10
    shopper: str | None = None
    history: Sequence[HistoryEvent] | None = None
    embedding: UserEmbedding | None = None
    query: str = ""
    item_id: str = ""
    exclude_seen: bool = True
    timestamp: int | None = None
    request_id: str | None = None
    session: Sequence[HistoryEvent] = ()
    segment: int | None = None
    hidden: Sequence[str] = ()
    categories: Sequence[str] = ()
    merchants: Sequence[str] = ()
    reasons: bool = True

    def __post_init__(self) -> None:
        """Refuse two profiles at once."""
        given = [name for name in ("shopper", "history", "embedding") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidQuestion(f"a question has {' and '.join(given)}; give at most one of them")

    def to_wire(self, request_id: str) -> pb.RankRequest:
        """The protobuf form; `request_id` is used where the question has none of its own."""
        request = pb.RankRequest(
            request_id=request_id if self.request_id is None else self.request_id,
            surface=_surface(self.surface),
            k=self.k,
            query=self.query,
            item_id=self.item_id,
            exclude_seen=self.exclude_seen,
            hidden_item_ids=self.hidden,
            categories=self.categories,
            merchant_ids=self.merchants,
            without_reasons=not self.reasons,
        )
        if self.timestamp is not None:
            request.context.timestamp.CopyFrom(Timestamp(seconds=self.timestamp))
        if self.segment is not None:
            request.context.segment = self.segment
        if self.session:
            request.session.CopyFrom(_events(self.session))
        self._add_profile(request)
        return request

    def _add_profile(self, request: pb.RankRequest) -> None:
        if self.shopper is not None:
            request.shopper = self.shopper
        elif self.history is not None:
            request.history.CopyFrom(_events(self.history))
        elif self.embedding is not None:
            embedding = self.embedding
            request.user_embedding.CopyFrom(
                pb.UserEmbedding(values=embedding.values, model_version=embedding.model_version)
            )


@dataclass(frozen=True, kw_only=True)
class FeedbackEvent:
    """What every event tells: `event_id` unique, `timestamp` in Unix seconds."""

    event_id: str
    shopper: str
    item_id: str
    timestamp: int
    ranking_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Impression(FeedbackEvent):
    """An item was shown at place `rank` (1 is the first) of a ranking; `propensity` as the ranked item had it."""

    surface: Surface
    rank: int
    propensity: float | None = None


@dataclass(frozen=True, kw_only=True)
class Interaction(FeedbackEvent):
    """The shopper did something: `kind` of `model.features.KINDS`; `price` of one piece."""

    kind: str
    quantity: float | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind here, before a call."""
        _check_kind(self.kind)


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """How many events the endpoint holds now, how many it held before, and how many it could not place."""

    acknowledged: int
    duplicates: int
    unknown_items: int


def event_messages(events: Sequence[Impression | Interaction]) -> list[pb.RecordEventsRequest]:
    """The protobuf form of a stream of events, some per message."""
    wire = [_event(event) for event in events]
    starts = range(0, len(wire), EVENTS_PER_MESSAGE)
    return [pb.RecordEventsRequest(events=wire[start : start + EVENTS_PER_MESSAGE]) for start in starts]


def _event(event: Impression | Interaction) -> pb.Event:
    wire = pb.Event(
        event_id=event.event_id,
        ranking_id=event.ranking_id,
        shopper=event.shopper,
        item_id=event.item_id,
        timestamp=Timestamp(seconds=event.timestamp),
    )
    if isinstance(event, Impression):
        surface, rank, propensity = _surface(event.surface), event.rank, event.propensity
        wire.impression.CopyFrom(pb.Impression(surface=surface, rank=rank, propensity=propensity))
    else:
        kind, quantity, price = _kind(event.kind), event.quantity, event.price
        wire.interaction.CopyFrom(pb.Interaction(kind=kind, quantity=quantity, price=price))
    return wire


def _events(events: Sequence[HistoryEvent]) -> pb.History:
    return pb.History(events=[_history_event(event) for event in events])


def _history_event(event: HistoryEvent) -> pb.HistoryEvent:
    time = None if event.time is None else Timestamp(seconds=event.time)
    return pb.HistoryEvent(item_id=event.item_id, kind=_kind(event.kind), time=time)


def _surface(surface: Surface) -> str:
    return f"SURFACE_{surface.name}"


def _kind(kind: str) -> str:
    return f"EVENT_KIND_{kind.upper()}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidEvent(f"the kind of an event is {kind!r}; use one of {', '.join(KINDS)}")
