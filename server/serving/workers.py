"""Several processes answer on one port: starts them, starts again what dies, and ends them with their calls done.

The parent holds the port and answers nothing. Each worker is a fresh interpreter (never a fork: gRPC's threads do
not survive one), which gets its options as one line of JSON on standard input, says `ready VERSION` on standard
output, and stops when that input ends, so that no worker outlives its parent. The kernel gives every new
connection to one of them (SO_REUSEPORT).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.errors import EndpointError
from server.serving.logs import fields

_log = logging.getLogger(__name__)


class WorkerFailed(EndpointError):
    """A worker ended before it was ready; it has told why on standard error. `code` is its exit status."""

    def __init__(self, code: int) -> None:
        """Keep the exit status."""
        super().__init__(f"a worker ended with status {code} before it was ready; its message stands above")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """What to run and how to start it again.

    Attributes:
        command: program and words of one worker.
        options: JSON for a worker's standard input.
        environment: added to the parent's.
        drain_seconds: how long a worker may take to end after it was asked to.
        first_pause, longest_pause: seconds before a restart; doubled each time, from the first again after
            a worker lived `calm_seconds`.
    """

    command: Sequence[str]
    options: str
    count: int
    environment: Mapping[str, str] = field(default_factory=dict)
    drain_seconds: float = 15.0
    first_pause: float = 0.1
    longest_pause: float = 10.0
    calm_seconds: float = 60.0

    def pause(self, before: float, lived: float) -> float:
        """Seconds to wait before the next start; `before` is the last pause (0: none), `lived` the last life."""
        if lived >= self.calm_seconds or not before:
            return self.first_pause
        return min(self.longest_pause, 2 * before)


class Workers:
    """The processes of one endpoint."""

    def __init__(self, plan: WorkerPlan, on_end: Callable[[int], None] = lambda pid: None) -> None:
        """Start nothing yet; `on_end` is told the process id of each worker that ended."""
        self.restarts = 0
        self._plan = plan
        self._on_end = on_end
        self._processes: dict[int, Process] = {}

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain; `on_ready` gets the model version once all answer.

        Raises `WorkerFailed` where one cannot start; the others are ended first.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        serving = asyncio.create_task(self._serve(on_ready))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            serving.cancel()
            stopping.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)
            await self._end()

    async def _serve(self, on_ready: Callable[[str], None]) -> None:
        """Start one, which prepares what all share, then the others; then keep each of them alive."""
        version = await self._start(0)
        await asyncio.gather(*(self._start(number) for number in range(1, self._plan.count)))
        on_ready(version)
        async with asyncio.TaskGroup() as group:
            for number in range(self._plan.count):
                group.create_task(self._keep(number))

    async def _start(self, number: int) -> str:
        """Start a worker and wait until it answers; returns its model version."""
        process = await self._spawn(number)
        assert process.stdout is not None  # it was asked for as a pipe
        words = (await process.stdout.readline()).decode().split()
        if words[:1] != ["ready"]:
            raise WorkerFailed(await process.wait())
        return words[1]

    async def _spawn(self, number: int) -> Process:
        environment = {**os.environ, **self._plan.environment}
        process = await asyncio.create_subprocess_exec(
            *self._plan.command, stdin=PIPE, stdout=PIPE, env=environment
        )
        self._processes[number] = process
        assert process.stdin is not None  # it was asked for as a pipe
        process.stdin.write(f"{self._plan.options}\n".encode())
        return process

    async def _keep(self, number: int) -> None:
        """Start a worker again whenever it ends."""
        pause = 0.0
        while True:
            began = time.monotonic()
            process = self._processes[number]
            code = await process.wait()
            self._on_end(process.pid)
            self.restarts += 1
            pause = self._plan.pause(pause, time.monotonic() - began)
            _log.error(
                "a worker ended and is started again", extra=fields(worker=number, code=code, seconds=pause)
            )
            await asyncio.sleep(pause)
            await self._spawn(number)

    async def _end(self) -> None:
        """Ask every worker to drain, and end by force what does not."""
        alive = [process for process in self._processes.values() if process.returncode is None]
        for process in alive:
            process.terminate()
        try:
            async with asyncio.timeout(self._plan.drain_seconds):
                await asyncio.gather(*(process.wait() for process in alive))
        except TimeoutError:
            for process in alive:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Hold a port for the workers, 0 for a free one; raises `EndpointError` where somebody else has it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            chosen: int = probe.getsockname()[1]
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((*address[:1], chosen, *address[2:]))
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {host}:{port} ({error.strerror}); use --port 0 for a free port"
        ) from error
    with held:
        yield chosen
