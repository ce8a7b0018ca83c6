"""A node answers messages with the installed app, and tells nothing that an error's words could hold."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity

from client.node import Node
from client.node_connection import Connection

NODE, RUN = 11, 5
SECRET = "shopper-4711"


@dataclass
class Coordinator:
    """Stands for the other end of a node's connection."""

    waiting: list[tuple[Message, ObjectTree]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    confirmed: list[str] = field(default_factory=list)
    outlines: list[Message] = field(default_factory=list)
    received: dict[str, bytes] = field(default_factory=dict)
    ended: bool = False

    def ask(self, *, large: bool = False, **words: str) -> None:
        """Put a question in the queue: whole, or a large one in parts."""
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, 1
        content = RecordDict({"task": ConfigRecord(dict(words))})
        message = Message(content, dst_node_id=NODE, message_type="query.advertise", group_id="1")
        message.metadata.__dict__["_message_id"] = message.object_id
        if not large:
            self.waiting.append((message, ObjectTree(object_id=message.object_id)))
            return
        tree = get_object_tree(message)
        self.objects |= {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        self.waiting.append((remove_content_from_message(message), tree))

    def reply(self) -> Message:
        """The answer, put together again from its parts where it came in parts."""
        (outline,) = self.outlines
        if not self.received:
            return outline
        reply = inflate_object_from_contents(outline.metadata.message_id, dict(self.received))
        assert isinstance(reply, Message)
        return reply

    def connection(self) -> Connection:
        """The node's end."""
        return Connection(
            node_id=NODE,
            receive=lambda: self.waiting.pop(0) if self.waiting else None,
            send=self._send,
            pull_object=lambda _run, name: self.objects[name],
            push_object=lambda _run, _session, name, content: self.received.update({name: content}),
            confirm=lambda _run, name: self.confirmed.append(name),
        )

    def _send(self, outline: Message, tree: ObjectTree, _seconds: float) -> tuple[set[str], str]:
        if self.ended:
            raise RunNotRunningException
        self.outlines.append(outline)

        def names(one: ObjectTree) -> set[str]:
            return {one.object_id}.union(*(names(child) for child in one.children))

        return names(tree), "session"


class TwoLooks:
    """Stops after two questions for work."""

    def __init__(self) -> None:
        """Not asked yet."""
        self.looks = 0

    @property
    def asked(self) -> bool:
        """Whether it is time to stop."""
        self.looks += 1
        return self.looks > 2


def run(coordinator: Coordinator, app: Callable[[Message, Context], Message]) -> None:
    """Let a node with this app look for work twice."""
    Node(app, coordinator.connection(), {"kit": "/kit", "merchant-id": "north"}).run(TwoLooks())


def echo(message: Message, context: Context) -> Message:
    """Answer with the question's word, and with what the app is told about its node."""
    word = message.content.config_records["task"]["word"]
    told = {
        "word": word,
        "merchant": context.node_config["merchant-id"],
        "run-words": len(context.run_config),
    }
    return Message(RecordDict({"receipt": ConfigRecord(told)}), reply_to=message)


@pytest.mark.parametrize("large", [False, True])
def test_a_question_is_answered_by_the_app(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or in parts, question and answer arrive; no word of the run reaches the app."""
    if large:
        monkeypatch.setattr("client.node.INLINE_BYTES", 0)
    coordinator = Coordinator()
    coordinator.ask(large=large, word="hello")
    run(coordinator, echo)
    assert dict(coordinator.reply().content.config_records["receipt"]) == {
        "word": "hello",
        "merchant": "north",
        "run-words": 0,
    }
    assert len(coordinator.confirmed) == large
    assert bool(coordinator.received) is large


def test_an_error_of_the_app_tells_its_kind_alone() -> None:
    """Its words stay at the merchant: they could name a shopper."""

    def failing(_message: Message, _context: Context) -> Message:
        raise LookupError(SECRET)

    coordinator = Coordinator()
    coordinator.ask(word="hello")
    run(coordinator, failing)
    reply = coordinator.reply()
    assert reply.has_error()
    assert reply.error.reason == "LookupError"
    assert SECRET.encode() not in reply.deflate()


def test_an_answer_to_a_run_that_has_ended_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """The node goes on with the next question."""
    coordinator = Coordinator(ended=True)
    coordinator.ask(word="one")
    coordinator.ask(word="two")
    with caplog.at_level(logging.INFO):
        run(coordinator, echo)
    assert coordinator.waiting == []
    assert [record.getMessage() for record in caplog.records].count(
        "a message of a run that has ended is dropped"
    ) == 2


def test_a_log_line_names_the_question_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    """What is asked and how long it took, nothing of what it holds."""
    coordinator = Coordinator()
    coordinator.ask(word=SECRET)
    with caplog.at_level(logging.DEBUG, logger="fedrank"):
        run(coordinator, echo)
    assert any("query.advertise of 1 answered" in record.getMessage() for record in caplog.records)
    assert not any(SECRET in record.getMessage() for record in caplog.records)
