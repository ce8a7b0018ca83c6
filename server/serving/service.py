"""The gRPC service: checks a call, asks the stores, ranks or records, and answers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import grpc

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1 import ranking_pb2_grpc
from server.errors import ProfileUnavailable
from server.serving.engine import Engine, rank
from server.serving.feedback import check_events, read_events
from server.serving.query import PastEvent
from server.serving.status import answering
from server.serving.stores import FeedbackSink, ProfileSource
from server.serving.wire import read_query, write_ranking

PROFILE_UNAVAILABLE = "stored events cannot be read now: the list is the one for an unknown shopper"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What the service reaches outside itself."""

    profiles: ProfileSource
    feedback: FeedbackSink
    store_thread: Executor
    """Where calls to the two stores run; one thread where they may not be used by several."""
    clock: Callable[[], float]
    """Unix seconds."""
    new_ranking_id: Callable[[], str]


class RankingService(ranking_pb2_grpc.RankingServiceServicer):
    """`fedrank.ranking.v1.RankingService` over an engine; `ranking.proto` is its reference."""

    def __init__(self, engine: Engine, doors: Doors, *, show_scores: bool = False) -> None:
        """Answer from `engine`; scores leave only where `show_scores` is set."""
        self._engine = engine
        self._doors = doors
        self._show_scores = show_scores

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        """Answer with one ranking."""
        async with answering(context):
            query = read_query(request, self._now())
            notices: tuple[str, ...] = ()
            if request.WhichOneof("profile") == "shopper":
                events, notices = await self._stored(request.shopper)
                query = replace(query, history=events, stored=True)
            ranking = rank(self._engine.snapshot, query)
            ranking = replace(ranking, notices=(*notices, *ranking.notices))
            ranking_id = self._ranking_id(request.request_id, ranking.model_version)
            return write_ranking(ranking, ranking_id, show_scores=self._show_scores)

    async def RecordEvents(
        self, request_iterator: AsyncIterator[pb.RecordEventsRequest], context: Any
    ) -> pb.RecordEventsResponse:
        """Store a stream of events, one message at a time: a slow store slows the caller."""
        async with answering(context):
            answer = pb.RecordEventsResponse()
            received = 0
            async for request in request_iterator:
                check_events(request, self._now(), received)
                received += len(request.events)
                known = read_events(request.events, self._engine.snapshot.catalogue)
                stored = await self._in_store_thread(self._doors.feedback.record, known) if known else 0
                answer.acknowledged += len(known)
                answer.duplicates += len(known) - stored
                answer.unknown_items += len(request.events) - len(known)
            return answer

    async def _stored(self, shopper: str) -> tuple[Sequence[PastEvent] | None, tuple[str, ...]]:
        try:
            return await self._in_store_thread(self._doors.profiles.history, shopper), ()
        except ProfileUnavailable as error:
            _log.error("stored events cannot be read: %s", error)
            return None, (PROFILE_UNAVAILABLE,)

    async def _in_store_thread(self, call: Callable[[Any], Any], argument: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._doors.store_thread, call, argument)

    def _now(self) -> int:
        return int(self._doors.clock())

    def _ranking_id(self, request_id: str, version: str) -> str:
        """Fresh, or the same for the same request and model version: a retry joins one ranking."""
        if not request_id:
            return self._doors.new_ranking_id()
        return hashlib.sha256(f"fedrank ranking\0{version}\0{request_id}".encode()).hexdigest()[:32]


def add_to(server: grpc.aio.Server, service: RankingService) -> str:
    """Register the service; returns its full name."""
    ranking_pb2_grpc.add_RankingServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    return pb.DESCRIPTOR.services_by_name["RankingService"].full_name
