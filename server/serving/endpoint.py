"""Opens the ranking endpoint: address and TLS, bounds, health, promotion watch, and a stop that drains."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from server.errors import EndpointError
from server.serving.engine import Engine
from server.serving.service import RankingService, add_to

MAX_REQUEST_BYTES = 1 << 20
MAX_RESPONSE_BYTES = 4 << 20
MAX_CALLS = 256
"""Calls in progress at once; more are refused with RESOURCE_EXHAUSTED."""
MAX_STREAMS_PER_CONNECTION = 100
SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files of the server's certificate chain and its private key."""

    certificate: Path
    key: Path

    def credentials(self) -> grpc.ServerCredentials:
        """Read both files; raises `EndpointError` where one cannot be read."""
        try:
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
        except OSError as error:
            raise EndpointError(f"the TLS file {error.filename} cannot be read: {error.strerror}") from error
        return grpc.ssl_server_credentials([pair])


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
                "where a proxy does TLS"
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


@contextlib.asynccontextmanager
async def open_endpoint(
    config: EndpointConfig, engine: Engine, service: RankingService
) -> AsyncIterator[str]:
    """Serve while the block runs, and give it the address; on leaving, refuse new calls and drain.

    Raises `EndpointError` where the address or a TLS file cannot be used.
    """
    options = [*SERVER_OPTIONS, ("grpc.so_reuseport", int(config.share_port))]
    server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS, options=options)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = ("", add_to(server, service))
    address = _bind(server, config)
    await server.start()
    for name in names:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    watch = asyncio.create_task(_watch(engine, config.refresh_seconds))
    try:
        yield address
    finally:
        watch.cancel()
        await checks.enter_graceful_shutdown()
        await server.stop(config.drain_seconds)


def run_loop(main: Coroutine[None, None, None]) -> None:
    """Run the endpoint in the event loop that answers most calls per second."""
    import uvloop

    uvloop.run(main)


async def serve_until_stopped(
    config: EndpointConfig,
    engine: Engine,
    service: RankingService,
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
    async with open_endpoint(config, engine, service) as address:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        on_ready(address)
        await stop.wait()


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


async def _watch(engine: Engine, seconds: float) -> None:
    """Take each newly promoted version; one that cannot be loaded leaves the old one serving."""
    while True:
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(engine.refresh):
                _log.info("serving model version %s", engine.snapshot.version)
        except Exception as error:  # the watch outlives every fault of a new version
            _log.error("the promoted model version cannot be served, the old one stays: %r", error)
