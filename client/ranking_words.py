"""What a shop asks the ranking endpoint and what it tells it, with their wire form; answers: `ranking_answers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from client.ranking_checks import Checks
from client.ranking_errors import InvalidEvent, InvalidQuestion
from model.features import KINDS
from proto.fedrank.ranking.v1 import ranking_pb2 as pb

EVENTS_PER_MESSAGE = 500
_QUESTION = Checks(error=InvalidQuestion, of="a question")
_EVENT = Checks(error=InvalidEvent, of="an event")


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
    """What a shopper did: `kind` of `model.features.KINDS`; `time` in Unix seconds, None for now.

    A fraction of a second is dropped, here and in every other time.
    """

    item_id: str
    kind: str
    time: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent here, before a call."""
        _EVENT.text(item_id=self.item_id)
        _check_kind(self.kind)
        if self.time is not None:
            _EVENT.seconds("time", self.time)


@dataclass(frozen=True, kw_only=True)
class UserEmbedding:
    """A user vector (dim,) with the model version whose item vectors it was computed from."""

    values: Sequence[float]
    model_version: str

    def __post_init__(self) -> None:
        """Refuse what cannot be sent here, before a call."""
        _QUESTION.text(model_version=self.model_version)
        try:
            _wire_vector(self)
        except (TypeError, ValueError):
            raise InvalidQuestion(
                "embedding of a question holds more than numbers; give the values of one user vector"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request for a ranking, with at most one of `shopper`, `history` and `embedding`.

    `surface` is one of `Surface`, or its word. `timestamp` in Unix seconds, None for now. `request_id` None lets the
    client choose one, the same for each attempt, so that a retry joins one ranking.

    Attributes:
        session: what the shopper did just now and no profile holds yet; on cart, the basket.
        segment: number of a segment of the model version, where the caller knows that it fits.
        hidden: item ids never to list here.
        categories, merchants: only items of these; empty: of any.
        reasons: whether each item gets its reason, which costs time.
    """

    surface: Surface | str
    k: int = 10
    shopper: str | None = None
    history: Sequence[HistoryEvent] | None = None
    embedding: UserEmbedding | None = None
    query: str = ""
    item_id: str = ""
    exclude_seen: bool = True
    timestamp: float | None = None
    request_id: str | None = None
    session: Sequence[HistoryEvent] = ()
    segment: int | None = None
    hidden: Sequence[str] = ()
    categories: Sequence[str] = ()
    merchants: Sequence[str] = ()
    reasons: bool = True

    def __post_init__(self) -> None:
        """Refuse two profiles at once, and what cannot be sent."""
        given = [name for name in ("shopper", "history", "embedding") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidQuestion(f"a question has {' and '.join(given)}; give at most one of them")
        _check_surface(self.surface, _QUESTION)
        _QUESTION.whole("k", self.k, 1, "give 1 to 200 items")
        _QUESTION.text(query=self.query, item_id=self.item_id)
        _QUESTION.truth(exclude_seen=self.exclude_seen, reasons=self.reasons)
        _QUESTION.texts(hidden=self.hidden, categories=self.categories, merchants=self.merchants)
        _check_events(session=self.session)
        self._check_what_may_be_absent()

    def _check_what_may_be_absent(self) -> None:
        for name in ("shopper", "request_id"):
            if (text := getattr(self, name)) is not None:
                _QUESTION.text(**{name: text})
        if self.history is not None:
            _check_events(history=self.history)
        if self.embedding is not None and not isinstance(self.embedding, UserEmbedding):
            raise InvalidQuestion("embedding of a question is of another type; give a UserEmbedding")
        if self.timestamp is not None:
            _QUESTION.seconds("timestamp", self.timestamp)
        if self.segment is not None:
            _QUESTION.whole("segment", self.segment, 0, "`fedrank models show` lists a version's segments")

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
            request.context.timestamp.CopyFrom(_time(self.timestamp))
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
            request.user_embedding.CopyFrom(_wire_vector(self.embedding))


@dataclass(frozen=True, kw_only=True)
class FeedbackEvent:
    """What every event tells: `event_id` unique among the shopper's events, `timestamp` in Unix seconds."""

    event_id: str
    shopper: str
    item_id: str
    timestamp: float
    ranking_id: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be sent here, before a call."""
        _EVENT.text(event_id=self.event_id, shopper=self.shopper)
        _EVENT.text(item_id=self.item_id, ranking_id=self.ranking_id)
        _EVENT.seconds("timestamp", self.timestamp)


@dataclass(frozen=True, kw_only=True)
class Impression(FeedbackEvent):
    """An item was shown at place `rank` (1 is the first) of a ranking; `propensity` as the ranked item had it."""

    surface: Surface | str
    rank: int
    propensity: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent here, before a call."""
        super().__post_init__()
        _check_surface(self.surface, _EVENT)
        _EVENT.whole("rank", self.rank, 1, "give the place, 1 for the first")
        _EVENT.number(propensity=self.propensity)


@dataclass(frozen=True, kw_only=True)
class Interaction(FeedbackEvent):
    """The shopper did something: `kind` of `model.features.KINDS`; `price` of one piece."""

    kind: str
    quantity: float | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent here, before a call."""
        super().__post_init__()
        _check_kind(self.kind)
        _EVENT.number(quantity=self.quantity, price=self.price)


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """How many events the endpoint holds now, how many it held before, and how many it could not place."""

    acknowledged: int
    duplicates: int
    unknown_items: int


def event_messages(events: Sequence[Impression | Interaction]) -> list[pb.RecordEventsRequest]:
    """The protobuf form of a stream of events, some per message."""
    _EVENT.listed("events", events)
    wire = [_event(event) for event in events]
    starts = range(0, len(wire), EVENTS_PER_MESSAGE)
    return [pb.RecordEventsRequest(events=wire[start : start + EVENTS_PER_MESSAGE]) for start in starts]


def _event(event: Impression | Interaction) -> pb.Event:
    if not isinstance(event, FeedbackEvent):
        raise InvalidEvent(
            f"an event is of type {type(event).__name__}; give objects of Impression and Interaction"
        )
    wire = pb.Event(
        event_id=event.event_id,
        ranking_id=event.ranking_id,
        shopper=event.shopper,
        item_id=event.item_id,
        timestamp=_time(event.timestamp),
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
    time = None if event.time is None else _time(event.time)
    return pb.HistoryEvent(item_id=event.item_id, kind=_kind(event.kind), time=time)


def _wire_vector(embedding: UserEmbedding) -> pb.UserEmbedding:
    return pb.UserEmbedding(values=embedding.values, model_version=embedding.model_version)


def _time(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds))


def _surface(surface: Surface | str) -> str:
    return f"SURFACE_{Surface(surface).name}"


def _kind(kind: str) -> str:
    return f"EVENT_KIND_{kind.upper()}"


def _check_surface(surface: Surface | str, checks: Checks) -> None:
    try:
        Surface(surface)
    except ValueError:
        raise checks.error(
            f"surface of {checks.of} is {surface!r}; use one of {', '.join(Surface)}"
        ) from None


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidEvent(f"the kind of an event is {kind!r}; use one of {', '.join(KINDS)}")


def _check_events(**fields: Sequence[HistoryEvent]) -> None:
    for name, events in fields.items():
        _QUESTION.listed(name, events)
        if not all(isinstance(event, HistoryEvent) for event in events):
            raise InvalidQuestion(
                f"{name} of a question holds more than objects of HistoryEvent; give these alone"
            )
