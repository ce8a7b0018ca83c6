"""A merchant's node: one process that takes the coordinator's messages and answers them with the installed ClientApp.

It speaks to the coordinator by Flower's own SuperNode connection, under the key of the node's certificate, and opens
connections outwards alone. A bundle is never fetched, so no code that came over the wire can run. Being one process,
it keeps the shoppers in memory, and a message costs neither the start of an interpreter nor a local interface.
"""

from __future__ import annotations

import argparse
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

import httpx
from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    pull_and_inflate_object_from_tree,
    push_object_contents_from_iterable,
)
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity

from client.home import prepare
from client.node_connection import Connection, connected
from client.node_pace import Pace
from privacy.key_files import read_private
from proto.federation import INLINE_BYTES
from proto.readiness import tell_ready

log = logging.getLogger("fedrank.node")

LONGEST_PAUSE: Final = 0.25
"""The coordinator holds a question for messages until there is one; this is for when it cannot."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0
"""Pauses between looks for a part of a message that is still on its way, in seconds."""
TURNED_AWAY: Final = 77
"""Exit status of a node that the coordinator does not let in."""

ClientApp = Callable[[Message, Context], Message]


class Asked(Protocol):
    """Says when to stop."""

    @property
    def asked(self) -> bool:
        """Whether it is time."""


class Stopping:
    """Whether the supervisor has asked this process to end; the message in work is answered first."""

    def __init__(self) -> None:
        """Follow SIGTERM."""
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _sign: int, _frame: FrameType | None) -> None:
        self.asked = True


def main() -> None:
    """Answer messages until the supervisor says stop, or the coordinator turns the node away."""
    parser = argparse.ArgumentParser(prog="node")
    parser.add_argument("--coordinator", required=True, help="HOST:PORT")
    parser.add_argument("--merchant", required=True)
    for name in ("kit", "data", "authority", "key"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    told = parser.parse_args()
    stopping = Stopping()
    from client.app import app

    prepare(told.data, told.merchant)
    settings = {"kit": str(told.kit), "data": str(told.data), "merchant-id": told.merchant}
    place, key = told.data / "flower" / "node-id", read_private(told.key) or b""
    try:
        with connected(told.coordinator, told.authority, key, place, lambda: stopping.asked) as connection:
            Node(app, connection, settings).run(stopping)
    except KeyboardInterrupt:  # what Flower's connection raises where the coordinator knows the node no more
        raise SystemExit(TURNED_AWAY) from None


class Node:
    """Answers the messages of one connection."""

    def __init__(self, app: ClientApp, connection: Connection, settings: dict[str, str]) -> None:
        """Give `settings` to the app as its node configuration; they come from the kit, never from a message."""
        self._app, self._connection, self._settings = app, connection, settings

    def run(self, stopping: Asked) -> None:
        """Answer messages until asked to stop."""
        pace = Pace(LONGEST_PAUSE)
        tell_ready()
        while not stopping.asked:
            if self._next():
                pace.worked()
            else:
                pace.pause()

    def _next(self) -> bool:
        """Answer the next message; False where there is none. What belongs to a run that has ended is dropped."""
        try:
            received = self._connection.receive()
            if received is None:
                return False
            started = time.monotonic()
            message = self._whole(*received)
            run = message.metadata.run_id
            TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run, self._connection.node_id
            self._send(self._answer(message), time.monotonic() - started)
        except RunNotRunningException:
            log.info("a message of a run that has ended is dropped")
        except (httpx.HTTPError, RuntimeError) as error:
            log.warning("a message could not be answered (%s)", type(error).__name__)
        return True

    def _whole(self, outline: Message, tree: ObjectTree) -> Message:
        """Return a message with its content: a large one's is asked for part by part."""
        if not tree.children:
            return outline
        run = outline.metadata.run_id
        message = pull_and_inflate_object_from_tree(
            tree,
            lambda name: self._connection.pull_object(run, name),
            lambda name: self._connection.confirm(run, name),
            return_type=Message,
            initial_backoff=FIRST_WAIT,
            backoff_cap=LONGEST_WAIT,
        )
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def _answer(self, message: Message) -> Message:
        """Run the app; an error of it is an answer that names its kind alone: its words may hold what is private."""
        metadata, started = message.metadata, time.monotonic()
        context = Context(
            run_id=metadata.run_id,
            node_id=self._connection.node_id,
            node_config=dict(self._settings),
            state=RecordDict(),
            run_config={},
        )
        try:
            reply = self._app(message, context)
        except Exception as error:
            log.exception("%s failed", metadata.message_type)
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            return Message(Error(code=code, reason=type(error).__name__), reply_to=message)
        seconds = time.monotonic() - started
        log.info("%s of %s answered in %.2f s", metadata.message_type, metadata.group_id or "-", seconds)
        return reply

    def _send(self, reply: Message, seconds: float) -> None:
        """Send an answer whole, or a large one as its outline and then the parts that the coordinator lacks."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            if message_to_proto(reply).ByteSize() <= INLINE_BYTES:
                self._connection.send(reply, ObjectTree(object_id=reply.object_id), seconds)
                return
            run, parts = reply.metadata.run_id, get_all_nested_objects(reply)
            outline = remove_content_from_message(reply)
            wanted, session = self._connection.send(outline, get_object_tree(reply), seconds)
            push_object_contents_from_iterable(
                ((name, part.deflate()) for name, part in parts.items() if name in wanted),
                lambda name, content: self._connection.push_object(run, session, name, content),
            )
