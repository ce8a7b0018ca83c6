"""The coordinator's executor: takes runs from the SuperLink and runs the installed ServerApp, never a bundle's code.

One run at a time, in this process. A run that was going when an executor died is stopped by the next one: its journal
says how far it came, and a new run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import httpx
from flwr.app import Context
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, PushTaskOutputRequest
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from privacy.certificate_authority import AUTHORITY
from privacy.errors import PrivacyError
from privacy.key_files import read_private
from proto.readiness import tell_ready
from server.coordination.bundle import RUN
from server.coordination.ending import RunStopped, Stopped
from server.coordination.inline_grid import InlineGrid
from server.coordination.superlink import SuperLink
from server.coordination.superlink_files import SuperLinkError, SuperLinkFiles
from server.errors import ServerError

log = logging.getLogger("fedrank.coordination.executor")

POLL_SECONDS: Final = 0.5
_ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"
_RUN_NAME: Final = re.compile(r"[0-9a-f]{32}")

ServerApp = Callable[[Grid, Context], None]


def main() -> None:
    """Take up runs until the supervisor says stop."""
    parser = argparse.ArgumentParser(prog="executor")
    parser.add_argument("--data", type=Path, required=True)
    files = SuperLinkFiles.of(parser.parse_args().data)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(
        signal.SIGINT, _stop_run
    )  # what Flower's heartbeat raises where the SuperLink has ended the run
    from server.coordination.app import app

    try:
        Executor(files, app).run()
    except Stopped:
        log.info("the executor ends")


def _stop(_sign: int, _frame: FrameType | None) -> None:
    raise Stopped


def _stop_run(_sign: int, _frame: FrameType | None) -> None:
    raise RunStopped("the run was stopped")


class Executor:
    """Runs one app for every run of one SuperLink."""

    def __init__(self, files: SuperLinkFiles, app: ServerApp) -> None:
        """Prepare a client that shows the executors' secret."""
        self._files, self._app = files, app
        self._address = files.address()
        self._authority = (files.authority / AUTHORITY).read_bytes()
        secret = SuperExecAuthHttpInterceptor(
            master_secret=read_private(files.secret) or b"", protected_methods={_ACQUIRE}
        )
        self._client = RuntimeHttpClient.from_server_address(
            self._address,
            False,
            self._authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), secret],
        )

    def run(self) -> None:
        """Poll for runs for ever; leaves by `Stopped`."""
        self._stop_orphans()
        tell_ready()
        while True:
            token = self._acquired()
            if token:
                self._one(token)
            else:
                time.sleep(POLL_SECONDS)

    def _stop_orphans(self) -> None:
        """End the runs whose executor died: nobody will ever finish them. Waits for the SuperLink to be there."""
        with SuperLink.open(self._files.folder.parent) as superlink:
            while True:
                try:
                    orphans = superlink.unfinished()
                    break
                except SuperLinkError:
                    time.sleep(POLL_SECONDS)
            for run_id in orphans:
                log.warning("run %d was left by an executor that died; it is stopped", run_id)
                superlink.stop(run_id)

    def _acquired(self) -> str:
        """The token of a run to take up, or nothing; a SuperLink that is away is waited for."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        try:
            token: str = self._client.AcquireTask(request).token
        except httpx.HTTPError as error:
            log.warning("the SuperLink does not answer (%s)", type(error).__name__)
            time.sleep(1.0)
            return ""
        return token

    def _one(self, token: str) -> None:
        grid = InlineGrid(runtime_api_address=self._address, root_certificates=self._authority, token=token)
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(grid._runtime_client))
        heartbeat.start()
        outcome, details = SubStatus.FAILED, "the executor ended"
        try:
            outcome, details = self._attempt(grid)
        finally:
            heartbeat.stop()
            _push(grid, outcome, details)
            grid.close()

    def _attempt(self, grid: InlineGrid) -> tuple[str, str]:
        """Run the app once; an error is an outcome, and its words go to the SuperLink and the log."""
        try:
            context = self._context(grid)
            self._app(grid, context)
        except Stopped:
            raise
        except RunStopped as error:
            log.warning("%s", error)
            return SubStatus.STOPPED, str(error)
        except (ServerError, PrivacyError) as error:  # raised on purpose: its words say it all
            log.error("the run failed: %s", error)
            return SubStatus.FAILED, f"{type(error).__name__}: {error}"
        except Exception as error:
            log.exception("the run failed")
            return SubStatus.FAILED, f"{type(error).__name__}: {error}"
        log.info("run %d is complete", context.run_id)
        return SubStatus.COMPLETED, ""

    def _context(self, grid: InlineGrid) -> Context:
        """Pull the run and read its configuration, which never left this machine."""
        given = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        run = run_from_proto(given.run)
        grid.set_run(run)
        context = context_from_proto(given.context)
        context.run_config = self._config(str(run.override_config.get(RUN, "")))
        log.info("run %d begins", run.run_id)
        return context

    def _config(self, name: str) -> dict[str, Any]:
        if not _RUN_NAME.fullmatch(name):
            raise SuperLinkError(f"a run is called {name[:64]!r}; submit runs with `fedrank federation run`")
        content = read_private(self._files.runs / name)
        if content is None:
            raise SuperLinkError(
                f"the configuration {name} is not in {self._files.runs}; submit the run again"
            )
        config: dict[str, Any] = json.loads(content)
        return config


def _push(grid: InlineGrid, outcome: str, details: str) -> None:
    try:
        grid._runtime_client.PushTaskOutput(PushTaskOutputRequest(sub_status=outcome, details=details))
    except httpx.HTTPError as error:
        log.warning("the run's end could not be told to the SuperLink (%s)", type(error).__name__)
