"""A Flower grid over a folder: coordinator and nodes are processes of their own, and letters outlive whoever dies.

In place of a SuperLink, for tests that kill: every message is a file that appears whole, and a node takes one away
before it answers it, so that whatever it dies over is asked once.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulation.grid import CLIENT_FAILED, COORDINATOR_NODE, FIRST_NODE

QUESTIONS, ANSWERS = "questions", "answers"
LOOK_SECONDS: Final = 0.02

ClientApp = Callable[[Message, Context], Message]


class MailboxGrid(Grid):
    """The coordinator's side."""

    def __init__(self, folder: Path, nodes: Sequence[str]) -> None:
        """Reach nodes by their names; each has the id of its place in the list."""
        self._folder = folder
        self._names = {FIRST_NODE + place: name for place, name in enumerate(nodes)}
        self._run, self._numbers = Run.create_empty(run_id=1), itertools.count()
        for name in nodes:
            (folder / QUESTIONS / name).mkdir(parents=True, exist_ok=True)
        (folder / ANSWERS).mkdir(exist_ok=True)
        _identify(COORDINATOR_NODE)

    def set_run(self, run: Run) -> None:
        """Take the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message as Flower makes it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes, in order."""
        return list(self._names)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return all nodes under their names, in order."""
        return [NodeInfo(node_id=node, name=name) for node, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Put each message into its node's box."""
        pushed = []
        for message in messages:
            identity = f"{next(self._numbers):06d}-{uuid.uuid4().hex}"
            message.metadata.__dict__["_message_id"] = identity
            box = self._folder / QUESTIONS / self._names[message.metadata.dst_node_id]
            _put(box / identity, message)
            pushed.append(identity)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield the replies that are there, each once."""
        for identity in message_ids:
            if (place := self._folder / ANSWERS / identity).exists():
                yield _taken(place)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yield the replies to messages as they come, until all are there or the time has passed."""
        waiting, end = set(self.push_messages(messages)), time.monotonic() + (timeout or float("inf"))
        while waiting and time.monotonic() < end:
            for reply in self.pull_messages(sorted(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
                yield reply
            time.sleep(LOOK_SECONDS)


def answer_letters(folder: Path, name: str, app: ClientApp, settings: Mapping[str, str]) -> None:
    """Be the node of a name until the parent process is gone; `settings` are its node configuration."""
    box, parent = folder / QUESTIONS / name, os.getppid()
    box.mkdir(parents=True, exist_ok=True)
    (folder / ANSWERS).mkdir(exist_ok=True)
    while os.getppid() == parent:
        for place in sorted(box.glob("[!.]*")):
            question = _taken(place)
            _put(folder / ANSWERS / place.name, _answered(app, question, settings))
        time.sleep(LOOK_SECONDS)


def _answered(app: ClientApp, question: Message, settings: Mapping[str, str]) -> Message:
    """Return the app's answer; an exception becomes an error reply with its kind alone, as a node's does."""
    node = question.metadata.dst_node_id
    _identify(node)
    context = Context(run_id=1, node_id=node, node_config=dict(settings), state=RecordDict(), run_config={})
    try:
        return app(question, context)
    except Exception as failure:
        return Message(Error(code=CLIENT_FAILED, reason=type(failure).__name__), reply_to=question)


def _identify(node: int) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, node


def _put(place: Path, message: Message) -> None:
    beside = place.with_name(f".{place.name}")
    beside.write_bytes(message_to_proto(message).SerializeToString())
    beside.rename(place)


def _taken(place: Path) -> Message:
    """Read a letter and take it away."""
    proto = ProtoMessage.FromString(place.read_bytes())
    place.unlink()
    return message_from_proto(proto)
