"""Opens the ranking endpoint: address, the guarded door, health, promotion watch, and a stop that drains."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import IO, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from server.errors import EndpointError
from server.serving.admission import GuardedServer
from server.serving.credentials import TlsFiles
from server.serving.engine import Engine
from server.serving.guard import Guard
from server.serving.limits import MAX_CALLS, server_options
from server.serving.logs import AccessLog, fault, fields
from server.serving.metrics import Metrics
from server.serving.observation import ObservedServer
from server.serving.service import RankingService, add_to

LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where and how to listen. Without TLS only on this machine, unless `insecure_any_interface`."""

    host: str = "127.0.0.1"
    port: int = 8443
    """0 takes a free port."""
    tls: TlsFiles | None = None
    insecure_any_interface: bool = False
    drain_seconds: float = 10.0
    """How long calls in progress may take after a stop was asked for."""
    notice_seconds: float = 0.0
    """How long calls are still taken after that, while health says NOT_SERVING, for balancers to look elsewhere."""
    refresh_seconds: float = 5.0
    """How often the registry is asked for a newer promoted version."""
    share_port: bool = False
    """Whether other processes of this endpoint listen on the port too; two endpoints never share one by accident."""

    def __post_init__(self) -> None:
        """Refuse an open door without a lock."""
        if not 0 <= self.port <= 65535:
            raise EndpointError(f"port is {self.port}; use 1 to 65535, or 0 for a free one")
        if self.tls is None and not self.insecure_any_interface and not is_loopback(self.host):
            raise EndpointError(
                f"host is {self.host!r} and there is no TLS, so rankings would cross the network readable; "
                "give --tls-cert and --tls-key, listen on 127.0.0.1, or pass --insecure-any-interface "
                "where a proxy does TLS and knows who calls"
            )

    def address(self, port: int) -> str:
        """HOST:PORT as a caller writes it."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an endpoint that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What answers behind the address."""

    engine: Engine
    service: RankingService
    guard: Guard
    metrics: Metrics
    access_log: AccessLog
    reflection: bool = False
    """Whether callers who may can ask for the protocol's description."""


@contextlib.asynccontextmanager
async def open_endpoint(config: EndpointConfig, inside: Inside) -> AsyncIterator[str]:
    """Serve while the block runs, and give it the address; on leaving, refuse new calls and drain.

    Raises `EndpointError` where the address or a TLS file cannot be used.
    """
    options = server_options(share_port=config.share_port)
    server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS, options=options)
    observed: Any = ObservedServer(server, (inside.metrics, inside.access_log))
    door: Any = GuardedServer(observed, inside.guard)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
    health_pb2_grpc.add_HealthServicer_to_server(checks, door)
    names = ("", add_to(door, inside.service))
    if inside.reflection:
        add_reflection(door, names[1:])
    address = _bind(server, config)
    await server.start()
    for name in names:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    watches = [
        asyncio.create_task(_watch(inside, config.refresh_seconds)),
        asyncio.create_task(_look(inside)),
    ]
    try:
        yield address
    finally:
        await checks.enter_graceful_shutdown()
        await asyncio.sleep(config.notice_seconds)
        for watch in watches:
            watch.cancel()
        await server.stop(config.drain_seconds)


def run_loop(main: Coroutine[None, None, None]) -> None:
    """Run the endpoint in the event loop that answers most calls per second."""
    import uvloop

    uvloop.run(main)


async def serve_until_stopped(
    config: EndpointConfig,
    inside: Inside,
    on_ready: Callable[[str], None],
    parent: IO[str] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; `on_ready` gets the address once calls are answered.

    `parent` is a pipe whose other end is held by the process that started this one: when it closes, stop too.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if parent is not None:
        loop.add_reader(parent, stop.set)
    async with open_endpoint(config, inside) as address:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        on_ready(address)
        await stop.wait()
        if parent is not None:
            loop.remove_reader(parent)


def add_reflection(door: Any, names: Sequence[str]) -> None:
    """Offer the protocol's description; raises `EndpointError` where the package for it is missing."""
    try:
        from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
    except ImportError as error:
        raise EndpointError(
            "reflection needs the package grpcio-reflection; install fedrank[reflection], or give callers the file "
            "proto/fedrank/ranking/v1/ranking.proto"
        ) from error
    offered = (*names, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(offered)  # type: ignore[attr-defined]  # the stubs lack it
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, door)


def _bind(server: grpc.aio.Server, config: EndpointConfig) -> str:
    wanted = config.address(config.port)
    try:
        if config.tls is None:
            port = server.add_insecure_port(wanted)
        else:
            port = server.add_secure_port(wanted, config.tls.credentials())
    except RuntimeError as error:
        raise EndpointError(
            f"cannot listen on {wanted}: the port is taken, the address is not of this machine, "
            "or the certificate and key do not fit; use --port 0 for a free port"
        ) from error
    return config.address(port)


async def _watch(inside: Inside, seconds: float) -> None:
    """Take each newer state; one that cannot be loaded leaves the old one serving."""
    engine, metrics = inside.engine, inside.metrics
    metrics.serving(engine.snapshot.version, engine.snapshot.index.recall)
    while True:
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(engine.refresh):
                metrics.swapped(failed=False)
                metrics.serving(engine.snapshot.version, engine.snapshot.index.recall)
                _log.info("a newer state is served", extra=fields(model_version=engine.snapshot.version))
        except Exception as error:  # the watch outlives every fault of a new version
            metrics.swapped(failed=True)
            _log.error("the newer state cannot be served, the old one stays", extra=fault(error))


async def _look(inside: Inside) -> None:
    """Bring the numbers up to date that change without a call."""
    while True:
        inside.metrics.look(inside.service.store_queue)
        await asyncio.sleep(LOOK_SECONDS)
