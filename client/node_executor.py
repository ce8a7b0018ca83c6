"""A merchant's executor: takes messages from its SuperNode and runs the installed ClientApp, never a bundle's code.

One process serves all messages, so that a message costs no start of an interpreter and the shoppers stay in memory.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import httpx
from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TASK_TOKEN_HEADER, TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from client.node_pace import Pace
from client.node_supernode import READY
from privacy.key_files import read_private

log = logging.getLogger("fedrank.node")

LONGEST_PAUSE: Final = 0.5
_ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"

ClientApp = Callable[[Message, Context], Message]


class Stopping:
    """Whether the supervisor has asked this process to end; the message in work is finished first."""

    def __init__(self) -> None:
        """Follow SIGTERM."""
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _sign: int, _frame: FrameType | None) -> None:
        self.asked = True


class TaskToken:
    """Shows the token of the task in work with every call, where there is one."""

    def __init__(self) -> None:
        """No task yet."""
        self.token = ""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the token to one call."""
        if self.token:
            context.request.headers[TASK_TOKEN_HEADER] = self.token
        return call_next(context)


def main() -> None:
    """Answer messages until the supervisor says stop."""
    parser = argparse.ArgumentParser(prog="node-executor")
    parser.add_argument("--runtime", required=True, help="HOST:PORT of the SuperNode's runtime interface")
    parser.add_argument("--secret", type=Path, required=True)
    told = parser.parse_args()
    stopping = Stopping()
    from client.app import app

    NodeExecutor(told.runtime, read_private(told.secret) or b"", app).run(stopping)


class NodeExecutor:
    """Runs one app for every message of one SuperNode."""

    def __init__(self, runtime: str, secret: bytes, app: ClientApp) -> None:
        """Prepare a client that shows the executors' secret."""
        self._app, self._token = app, TaskToken()
        authentication = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={_ACQUIRE})
        self._client = RuntimeHttpClient.from_server_address(
            runtime,
            True,
            None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
                authentication,
                self._token,
            ],
        )

    def run(self, stopping: Stopping) -> None:
        """Answer messages until asked to stop."""
        pace = Pace(LONGEST_PAUSE)
        if ready := os.environ.get(READY):
            Path(ready).touch()
        while not stopping.asked:
            if token := self._acquired():
                self._one(token)
                pace.worked()
            else:
                pace.pause()

    def _acquired(self) -> str:
        """The token of a message to answer, or nothing; a SuperNode that is away is waited for."""
        self._token.token = ""
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        try:
            token: str = self._client.AcquireTask(request).token
        except httpx.HTTPError as error:
            log.warning("the SuperNode does not answer (%s)", type(error).__name__)
            time.sleep(1.0)
            return ""
        return token

    def _one(self, token: str) -> None:
        """Answer one message; what the SuperNode no longer takes is dropped, and the next one is asked for."""
        self._token.token = token
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(self._client))
        heartbeat.start()
        try:
            message, context, _, _ = pull_task_input(self._client)
            reply = self._answer(message, context)
            push_message(self._client, reply, context)
            push_task_output(self._client, context, SubStatus.COMPLETED, "")
        except (httpx.HTTPError, RuntimeError, KeyboardInterrupt) as error:
            # An interrupt is what Flower's heartbeat raises where the SuperNode has given the message up.
            log.warning("a message could not be answered (%s)", type(error).__name__)
        finally:
            heartbeat.stop()

    def _answer(self, message: Message, context: Context) -> Message:
        """Run the app; an error of it is an answer that names its kind alone: its words may hold what is private."""
        started = time.monotonic()
        try:
            reply = self._app(message, context)
        except Exception as error:
            log.exception("%s failed", message.metadata.message_type)
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            return Message(Error(code=code, reason=type(error).__name__), reply_to=message)
        log.info(
            "%s of round %s answered in %.2f s",
            message.metadata.message_type,
            message.metadata.group_id or "-",
            time.monotonic() - started,
        )
        return reply
