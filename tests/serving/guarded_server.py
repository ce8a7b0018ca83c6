"""A guarded gRPC server with a ranking service that only says who called: for tests of the door alone.

As a program it serves a merchant's callers with the certificates in the folder of its first argument, or everybody in
the clear without one, and prints its port: a child process has a gRPC of its own, with its environment and output.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from certificates_world import DOMAIN, MERCHANT
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1 import ranking_pb2_grpc
from server.serving.admission import CALLER, GuardedServer
from server.serving.credentials import TlsFiles
from server.serving.guard import CertificateGuard, Guard, LocalGuard, Rules
from server.serving.limits import MAX_CALLS, server_options
from server.serving.quotas import Quota


class WhoCalls(ranking_pb2_grpc.RankingServiceServicer):
    """Answers with the caller's merchant and role, counts events, and fails when asked to."""

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        """The caller."""
        if request.query == "fail":
            raise RuntimeError(f"no row for {request.shopper}")
        if request.query == "wait":
            await asyncio.sleep(60)
        caller = CALLER.get()
        return pb.RankResponse(ranking_id=f"{caller.merchant}/{caller.role}")

    async def RecordEvents(
        self, requests: AsyncIterator[pb.RecordEventsRequest], context: Any
    ) -> pb.RecordEventsResponse:
        """The number of events."""
        return pb.RecordEventsResponse(acknowledged=sum([len(request.events) async for request in requests]))


def guard_for(
    merchants: frozenset[str] = frozenset({MERCHANT}),
    quota: Quota | None = None,
    is_revoked: Any = lambda issuer, serial: False,
    clock: Any = time.time,
) -> CertificateGuard:
    """A guard with what a test changes."""
    rules = Rules(merchants=merchants, domain=DOMAIN, quota=quota or Quota())
    return CertificateGuard(rules, is_revoked, clock, time.monotonic)


def files_in(folder: Path) -> TlsFiles:
    """The files under the names that the authority gives them."""
    return TlsFiles(
        certificate=folder / "server.pem", key=folder / "server.key", client_authorities=folder / "ca.pem"
    )


@contextmanager
def serving(guard: Guard, files: TlsFiles | None = None, options: Any = None) -> Iterator[int]:
    """Serve in a thread of its own; the block gets the port."""
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(lambda: asyncio.run(serve(guard, files, options, ready)))
        done.add_done_callback(lambda ended: _pass_on(ended, ready))
        port, loop, stop = ready.result(20)
        try:
            yield port
        finally:
            loop.call_soon_threadsafe(stop.set)
            done.result(30)


def _pass_on(ended: Future[None], ready: Future[Any]) -> None:
    """Give an error before readiness to whoever waits for readiness."""
    if not ready.done():
        ready.set_exception(ended.exception() or RuntimeError("it ended before it was ready"))


async def serve(guard: Guard, files: TlsFiles | None, options: Any, ready: Future[Any]) -> None:
    """Serve until the event in `ready` is set."""
    server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS, options=options or server_options())
    door = GuardedServer(server, guard)
    ranking_pb2_grpc.add_RankingServiceServicer_to_server(WhoCalls(), door)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), door)  # type: ignore[attr-defined]
    described: Any = reflection
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        described.aio.ReflectionServicer(["fedrank.ranking.v1.RankingService"]), door
    )
    credentials = files.credentials() if files else None
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    stop = asyncio.Event()
    ready.set_result((port, asyncio.get_running_loop(), stop))
    await stop.wait()
    await server.stop(0)


def open_guard() -> LocalGuard:
    """A guard that refuses no one on account of a quota."""
    return LocalGuard(Quota(per_second=1e9, burst=1e9, at_once=10_000), time.monotonic)


if __name__ == "__main__":
    known = files_in(Path(sys.argv[1])) if len(sys.argv) > 1 else None
    with serving(guard_for() if known else open_guard(), known) as opened:
        print(opened, flush=True)
        sys.stdin.read()
