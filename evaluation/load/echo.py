"""The bare echo server: the endpoint's own server set-up, and nothing behind it but answers made beforehand.

`python -m evaluation.load.echo ANSWERS` prints `ready ADDRESS`. It reads no request and builds no answer, so what it
costs is what gRPC in Python costs for messages of this size.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from evaluation.load.generator import read_bodies
from evaluation.load.plan import RANK_PATH
from server.serving.endpoint import run_loop
from server.serving.limits import MAX_CALLS, server_options


async def serve(answers: Sequence[bytes]) -> None:
    """Answer each call with the next of the answers, in turn, until SIGTERM."""
    turn = itertools.cycle(answers)

    async def rank(request: bytes, context: Any) -> bytes:
        return next(turn)

    service, _, method = RANK_PATH[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(rank)}
    server: Any = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS, options=server_options())
    server.add_registered_method_handlers(service, handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"ready 127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    run_loop(serve(read_bodies(Path(sys.argv[1]))))
