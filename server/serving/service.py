"""The gRPC service: asks the stores, ranks what waits together, records, and answers in bytes.

`open_endpoint` puts the guard before every method, so that what comes here is admitted and has a deadline; errors
that are raised here become the status of the call there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import grpc

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.errors import ProfileUnavailable, StoredProfilesOff
from server.serving.admission import CALLER, decoded
from server.serving.answer import write_ranking
from server.serving.batches import Batches
from server.serving.engine import Engine
from server.serving.feedback import check_events, read_events
from server.serving.guard import Caller
from server.serving.logs import fault
from server.serving.metrics import Metrics
from server.serving.observation import OBSERVATION, Observation
from server.serving.query import Basis, Events, RankQuery
from server.serving.ranking import Ranking
from server.serving.stores import FeedbackEvent, FeedbackSink, ProfileSource
from server.serving.wire import read_query
from server.serving.wire_plain import plain_question

NAME: str = pb.DESCRIPTOR.services_by_name["RankingService"].full_name
PROFILE_UNAVAILABLE = "stored events cannot be read now: the list is the one for an unknown shopper"
STORED_PROFILES_OFF = (
    "this endpoint keeps no shopper's events; send `history`, `session` or `user_embedding` instead of `shopper`, "
    "ask the merchant's own endpoint over TLS or on its own machine, "
    "or for a simulation start this one with `fedrank serve --stored-profiles`"
)

_log = logging.getLogger(__name__)
_Asked = TypeVar("_Asked")
_Told = TypeVar("_Told")


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What the service reaches outside itself."""

    profiles: ProfileSource
    feedback: FeedbackSink
    profile_thread: Executor
    """Where profiles are read; apart from what is stored, so that a ranking does not wait for a stream of events."""
    feedback_thread: Executor
    """Where events are stored."""
    clock: Callable[[], float]
    """Unix seconds."""
    new_ranking_id: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class ServiceRules:
    """What this endpoint gives and keeps.

    Attributes:
        show_scores: whether scores leave.
        merchant: whose endpoint it is: callers of this merchant may name its shoppers, whose events it keeps.
        stored_profiles: everybody admitted may, as a simulation of all shoppers' devices needs.
        local: only this machine reaches the endpoint, so that a caller whom nobody checks counts as the merchant's.
    """

    show_scores: bool = False
    merchant: str | None = None
    stored_profiles: bool = False
    local: bool = False

    def check_shoppers(self, caller: Caller) -> None:
        """Raise `StoredProfilesOff` unless `caller` may name shoppers here."""
        known = caller.merchant == self.merchant if caller.merchant else self.local
        own = self.merchant is not None and known
        if not (own or self.stored_profiles):
            raise StoredProfilesOff(STORED_PROFILES_OFF)


class RankingService:
    """`fedrank.ranking.v1.RankingService` over an engine; `ranking.proto` is its reference."""

    def __init__(self, engine: Engine, doors: Doors, rules: ServiceRules, metrics: Metrics) -> None:
        """Answer from `engine` by `rules`, and count in `metrics`."""
        self._engine = engine
        self._doors = doors
        self._rules = rules
        self._metrics = metrics
        self._batches: Batches[RankQuery, tuple[Ranking, int]] = Batches(self._answer)
        self.store_queue = 0

    async def rank(self, content: bytes, context: Any) -> bytes:
        """Answer the bytes of a `RankRequest` with those of one `RankResponse`."""
        call = _observed()
        notices: tuple[str, ...] = ()
        query = plain_question(content, self._now(), self._doors.new_ranking_id)
        if query is None:
            query, notices = await self._read(decoded(pb.RankRequest.FromString, content))
        call.surface = query.surface.value
        ranking, call.batch = await self._batches.ask(query)
        call.items, call.model_version = len(ranking.items), ranking.model_version
        call.cold_start = ranking.basis is Basis.COLD_START
        ranking_id = _ranking_id(query.seed, ranking.model_version, call.merchant)
        return write_ranking(ranking, ranking_id, show_scores=self._rules.show_scores, notices=notices)

    async def _read(self, request: pb.RankRequest) -> tuple[RankQuery, tuple[str, ...]]:
        """The question in a request, with the events that are stored, and what is to be said of them."""
        if not request.request_id:
            request.request_id = self._doors.new_ranking_id()
        query = read_query(request, self._now())
        if request.WhichOneof("profile") != "shopper":
            return query, ()
        _observed().surface = query.surface.value
        self._rules.check_shoppers(CALLER.get())
        events, notices = await self._stored(request.shopper)
        return replace(query, history=events, stored=True), notices

    async def record_events(
        self, requests: AsyncIterator[pb.RecordEventsRequest], context: Any
    ) -> pb.RecordEventsResponse:
        """Store a stream of events, one message at a time: a slow store slows the caller."""
        _observed()
        self._rules.check_shoppers(CALLER.get())
        answer = pb.RecordEventsResponse()
        received = 0
        async for request in requests:
            check_events(request, self._now(), received)
            received += len(request.events)
            known = read_events(request.events, self._engine.snapshot.items)
            stored = await self._record(known) if known else 0
            unknown = len(request.events) - len(known)
            self._metrics.recorded(stored, len(known) - stored, unknown)
            answer.acknowledged += len(known)
            answer.duplicates += len(known) - stored
            answer.unknown_items += unknown
        return answer

    def _answer(self, queries: Sequence[RankQuery]) -> list[tuple[Ranking, int] | Exception]:
        """Answer together; only a fault of ours makes us ask each alone, so that it takes no other with it."""
        try:
            answers = self._engine.answer(queries)
        except Exception as error:
            if len(queries) == 1:
                return [error]
            return [answer for query in queries for answer in self._answer([query])]
        rankings = [answer for answer in answers if isinstance(answer, Ranking)]
        if rankings:
            self._metrics.batch(len(rankings), sum(ranking.candidates for ranking in rankings))
        return [(answer, len(rankings)) if isinstance(answer, Ranking) else answer for answer in answers]

    async def _stored(self, shopper: str) -> tuple[Events | None, tuple[str, ...]]:
        try:
            return await self._in_thread(self._doors.profile_thread, self._history, shopper), ()
        except ProfileUnavailable as error:
            _log.error("stored events cannot be read", extra=fault(error))
            return None, (PROFILE_UNAVAILABLE,)

    def _history(self, shopper: str) -> Events | None:
        """The stored events as columns, which take as long to make as there are events: not in the event loop."""
        events = self._doors.profiles.history(shopper)
        return None if events is None else Events.of(events)

    async def _record(self, events: Sequence[FeedbackEvent]) -> int:
        return await self._in_thread(self._doors.feedback_thread, self._doors.feedback.record, events)

    async def _in_thread(self, thread: Executor, call: Callable[[_Asked], _Told], argument: _Asked) -> _Told:
        loop = asyncio.get_running_loop()
        self.store_queue += 1
        try:
            return await loop.run_in_executor(thread, call, argument)
        finally:
            self.store_queue -= 1

    def _now(self) -> int:
        return int(self._doors.clock())


def add_to(server: Any, service: RankingService) -> str:
    """Register the service with a server that takes handlers by name; returns its full name.

    The generated function is not used, because it would build an answer anew that is encoded already.
    """
    rank = grpc.unary_unary_rpc_method_handler(service.rank, None, None)
    record = grpc.stream_unary_rpc_method_handler(
        service.record_events,
        pb.RecordEventsRequest.FromString,
        pb.RecordEventsResponse.SerializeToString,
    )
    server.add_registered_method_handlers(NAME, {"Rank": rank, "RecordEvents": record})
    return NAME


def _observed() -> Observation:
    """The running call, with its caller's name."""
    call, caller = OBSERVATION.get(), CALLER.get()
    call.merchant, call.role = caller.merchant or "", caller.role or ""
    return call


def _ranking_id(request_id: str, version: str, merchant: str) -> str:
    """The same for the same request, model version and caller's merchant: a retry joins one ranking."""
    asked = f"fedrank ranking\0{version}\0{merchant}\0{request_id}"
    return hashlib.sha256(asked.encode()).hexdigest()[:32]
