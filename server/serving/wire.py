"""From the wire to questions; every field of a request is checked here. `answer.py` writes the answers."""

from __future__ import annotations

import numpy as np

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.ranking_bounds import MAX_ID_CHARACTERS, MAX_TIMESTAMP
from server.errors import Violations
from server.serving.kernels_wire import plain_history
from server.serving.query import NO_TIME, NOTHING, Events, RankQuery, Surface, UserVector

MAX_K = 200
MAX_QUERY_CHARACTERS = 500
MAX_REQUEST_ID_CHARACTERS = 128
MAX_EVENTS = 10_000
"""Of history and session together; of more than some thousand nearly all repeat an item and kind."""
MAX_HIDDEN = 1000
MAX_NAMES = 50
"""Categories or merchants that a question may name."""
MAX_EMBEDDING_VALUE = 1e6
"""A larger magnitude could overflow a float32 score."""

SURFACES = {pb.Surface.Value(f"SURFACE_{surface.name}"): surface for surface in Surface}
KINDS = {
    number: name.removeprefix("EVENT_KIND_").lower()
    for name, number in pb.EventKind.items()
    if number != pb.EVENT_KIND_UNSPECIFIED
}
"""Wire number -> kind of event, as in `model.features.KINDS`."""


def read_query(request: pb.RankRequest, now: int) -> RankQuery:
    """Check a request and translate it; a stored shopper's history is the caller's to add.

    `now` in Unix seconds stands in for an absent timestamp. Raises `InvalidRequest` naming every bad field.
    """
    bad = Violations()
    timestamp = now
    if request.context.HasField("timestamp"):
        timestamp = request.context.timestamp.seconds
        check_range(bad, "context.timestamp", timestamp, 0, MAX_TIMESTAMP, "seconds since 1970")
    check_range(bad, "k", request.k, 1, MAX_K, "items")
    check_length(bad, "request_id", request.request_id, 0, MAX_REQUEST_ID_CHARACTERS)
    surface = _surface(bad, request)
    profile = request.WhichOneof("profile")
    if profile == "shopper":
        check_length(bad, "shopper", request.shopper, 1, MAX_ID_CHARACTERS)
    told = _bounded(bad, request)
    history = _events(bad, "history", request.history) if profile == "history" and told else None
    session = _events(bad, "session", request.session) if request.HasField("session") and told else NOTHING
    _check_names(bad, request)
    embedding = _embedding(bad, request.user_embedding) if profile == "user_embedding" else None
    bad.refuse_any()
    return RankQuery(
        surface=surface,
        k=request.k,
        timestamp=timestamp,
        embedding=embedding,
        history=history,
        words=request.query,
        item_id=request.item_id,
        exclude_seen=request.exclude_seen if request.HasField("exclude_seen") else True,
        session=session,
        segment=request.context.segment if request.context.HasField("segment") else None,
        hidden=request.hidden_item_ids,
        categories=request.categories,
        merchants=request.merchant_ids,
        reasons=not request.without_reasons,
        seed=request.request_id,
    )


def check_range(bad: Violations, field: str, value: float, low: float, high: float, unit: str) -> None:
    """Note a violation unless `low <= value <= high`; NaN is out of any range."""
    if not low <= value <= high:
        bad.note(field, f"is {value}; send {low} to {high} {unit}")


def check_length(bad: Violations, field: str, value: str, low: int, high: int) -> None:
    """Note a violation unless the text has `low` to `high` characters; the text itself is not repeated."""
    if not low <= len(value) <= high:
        problem = f"has {len(value)} characters; send {low} to {high}"
        bad.note(field, problem)


def _surface(bad: Violations, request: pb.RankRequest) -> Surface:
    surface = read_surface(bad, "surface", request.surface)
    if surface is Surface.SEARCH:
        check_length(bad, "query", request.query.strip(), 1, MAX_QUERY_CHARACTERS)
    least = 1 if surface is Surface.DETAIL else 0
    check_length(bad, "item_id", request.item_id, least, MAX_ID_CHARACTERS)
    return surface


def read_surface(bad: Violations, field: str, number: int) -> Surface:
    """The surface of a wire number; notes a violation for any other number (and answers home)."""
    if number not in SURFACES:
        names = ", ".join(pb.Surface.Name(known) for known in SURFACES)
        bad.note(field, f"is {number}; send one of {names}")
    return SURFACES.get(number, Surface.HOME)


def _bounded(bad: Violations, request: pb.RankRequest) -> bool:
    """Whether the events are few enough to be looked at; notes a violation where they are not."""
    counts = {"history": len(request.history.events), "session": len(request.session.events)}
    total = sum(counts.values())
    if total > MAX_EVENTS:
        problem = f"brings the events of history and session to {total}; send at most the newest {MAX_EVENTS}"
        bad.note(f"{max(counts, key=lambda field: counts[field])}.events", problem)
    return total <= MAX_EVENTS


def _events(bad: Violations, field: str, told: pb.History) -> Events:
    """The events as columns: out of protobuf's bytes in one go, or one by one where something is unusual."""
    columns = np.empty((4, len(told.events)), dtype=np.int64)
    content = told.SerializeToString()
    if not plain_history(content, len(KINDS), MAX_TIMESTAMP, columns):
        return _events_one_by_one(bad, field, told)
    return Events(content, columns)


def _events_one_by_one(bad: Violations, field: str, told: pb.History) -> Events:
    """The same of any events. Few are wrong, so places are only looked for where one is."""
    events = list(told.events)  # iterating anew would make every event's object anew
    item_ids = [event.item_id for event in events]
    kinds = [event.kind - 1 for event in events]
    times = [event.time.seconds for event in events]
    if kinds and not (min(kinds) >= 0 and max(kinds) < len(KINDS)):
        wrong = [place for place, kind in enumerate(kinds) if not 0 <= kind < len(KINDS)]
        for place in bad.first_of(wrong):
            read_kind(bad, f"{field}.events[{place}].kind", kinds[place] + 1)
    if times and not (min(times) >= 0 and max(times) <= MAX_TIMESTAMP):
        wrong = [place for place, time in enumerate(times) if not 0 <= time <= MAX_TIMESTAMP]
        for place in bad.first_of(wrong):
            name = f"{field}.events[{place}].time"
            check_range(bad, name, times[place], 0, MAX_TIMESTAMP, "seconds since 1970")
    if 0 in times:  # an absent time reads as 0 as well
        times = [event.time.seconds if event.HasField("time") else NO_TIME for event in events]
    return Events.of_columns(item_ids, kinds, times)


def _check_names(bad: Violations, request: pb.RankRequest) -> None:
    bounds = {"hidden_item_ids": MAX_HIDDEN, "categories": MAX_NAMES, "merchant_ids": MAX_NAMES}
    for field, most in bounds.items():
        if len(getattr(request, field)) > most:
            problem = f"has {len(getattr(request, field))} entries; send at most {most}"
            bad.note(field, problem)


def read_kind(bad: Violations, field: str, number: int) -> str:
    """The kind of event of a wire number; notes a violation for any other number."""
    if number not in KINDS:
        names = ", ".join(pb.EventKind.Name(known) for known in KINDS)
        bad.note(field, f"is {number}; send one of {names}")
    return KINDS.get(number, "")


def _embedding(bad: Violations, embedding: pb.UserEmbedding) -> UserVector:
    values = np.array(embedding.values, dtype=np.float32)
    if not (np.abs(values) <= MAX_EMBEDDING_VALUE).all():
        problem = f"holds NaN or a magnitude above {MAX_EMBEDDING_VALUE:g}; compute the embedding again"
        bad.note("user_embedding.values", problem)
    if not embedding.model_version:
        problem = "is empty; send the model_version of the item vectors that the embedding was made with"
        bad.note("user_embedding.model_version", problem)
    return UserVector(values=values, model_version=embedding.model_version)
