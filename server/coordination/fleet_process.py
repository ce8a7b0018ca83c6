"""The process of the fleet proxy: TLS 1.3 towards the merchants, the SuperLink's loopback address behind."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import uvicorn

from privacy.certificate_authority import AUTHORITY
from proto.federation import PROTOCOL
from proto.readiness import tell_ready
from server.coordination.fleet_proxy import ANSWER_SECONDS, FleetProxy
from server.coordination.mail import Mail
from server.coordination.members import LOOK_SECONDS, MemberFiles, Members
from server.coordination.roster import Roster
from server.coordination.superlink_files import SuperLinkFiles

log = logging.getLogger("fedrank.coordination.fleet")

CONNECTIONS: Final = 1024
IDLE_SECONDS: Final = 30


@dataclass(frozen=True, kw_only=True)
class _Pair:
    certificate: Path
    key: Path

    def contents(self) -> tuple[bytes, bytes]:
        return self.certificate.read_bytes(), self.key.read_bytes()


class _Server(uvicorn.Server):
    """Ends questions that wait before it waits for calls to end."""

    def __init__(self, config: uvicorn.Config, proxy: FleetProxy) -> None:
        """Serve the proxy's app."""
        super().__init__(config)
        self._proxy = proxy

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._proxy.end()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="fleet-proxy")
    for name in ("data", "members", "authority", "revoked", "certificate", "key"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_serve(parser.parse_args()))


async def _serve(told: argparse.Namespace) -> None:
    files = MemberFiles(members=told.members, authority=told.authority, revoked=told.revoked)
    members = Members(files, told.domain, time.time, time.monotonic)
    pair = _Pair(certificate=told.certificate, key=told.key)
    link = SuperLinkFiles.of(told.data)
    async with _superlink(link) as superlink:
        proxy = FleetProxy(members, Mail(link.database), superlink)
        config = uvicorn.Config(
            proxy.app(),
            host=told.host,
            port=told.port,
            ssl_certfile=str(pair.certificate),
            ssl_keyfile=str(pair.key),
            access_log=False,
            log_config=None,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=2,
            server_header=False,
            headers=[("fedrank-protocol", PROTOCOL)],
        )
        config.load()
        assert config.ssl is not None
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        server = _Server(config, proxy)
        following = asyncio.create_task(
            _follow(Roster(members, told.data, time.monotonic), config.ssl, pair, server)
        )
        await server.serve()
        following.cancel()


def _superlink(files: SuperLinkFiles) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=str(files.authority / AUTHORITY))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    return httpx.AsyncClient(
        base_url=f"https://{files.address()}", verify=context, limits=limits, timeout=ANSWER_SECONDS
    )


async def _follow(roster: Roster, context: ssl.SSLContext, pair: _Pair, server: uvicorn.Server) -> None:
    """Once a second: bring the register up to date, and take up a renewed certificate of this port."""
    used = pair.contents()
    while True:
        await asyncio.to_thread(roster.follow)
        if server.started:
            tell_ready()
        try:
            if (found := pair.contents()) != used:
                context.load_cert_chain(pair.certificate, pair.key)
                used = found
                log.info("the certificate of this port has been renewed")
        except (OSError, ssl.SSLError) as error:
            log.error("the renewed certificate of this port cannot be used: %s", error)
        await asyncio.sleep(LOOK_SECONDS)
