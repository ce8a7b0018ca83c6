"""Small messages carry their content, large ones go in parts; both come out as they went in.

Coordinator and node are the real ones; between them are a real SuperLink's handlers and database, without the wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node as FlowerNode
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.config_loader import get_federation_manager, get_objectstore_linkstate_factories
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

from client.node import Node
from client.node_connection import Connection
from proto.federation import INLINE_BYTES
from server.coordination.ending import RunStopped, Stopped
from server.coordination.inline_grid import AT_ONCE, PARTS_AT_ONCE, InlineGrid

SMALL, LARGE = 1000, INLINE_BYTES


class Link(InlineGrid):
    """The coordinator's grid on a SuperLink's handlers; counts its requests."""

    def __init__(self, state: Any, run: int) -> None:
        """Speak for one run."""
        super().__init__(token="token")
        self._state, self._task, self.requests = state, SimpleNamespace(run_id=run), list[str]()
        self.set_run(Run.create_empty(run))

    @property
    def _runtime_client(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        """Return a call by the name that Flower's client has for it."""
        if not name[0].isupper():
            raise AttributeError(name)
        handler = getattr(runtime_handlers, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())

        def call(request: Any) -> Any:
            self.requests.append(name)
            return handler(request, self._state, self._task)

        return call


class Once:
    """Stops after so many questions for work."""

    def __init__(self, looks: int) -> None:
        """Count down from here."""
        self._left = looks

    @property
    def asked(self) -> bool:
        """Whether it is time to stop."""
        self._left -= 1
        return self._left < 0


class World:
    """One run of one SuperLink, its coordinator and its node."""

    def __init__(self, database: Path) -> None:
        """Make the database and put the node online."""
        _, factory = get_objectstore_linkstate_factories(str(database), get_federation_manager())
        self.state: Any = factory.state()
        self.run: int = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
        )
        self.node: int = self.state.create_node("owner", "owner", b"key", 100.0)
        self.state.acknowledge_node_heartbeat(self.node, 100.0)
        self.grid = Link(self.state, self.run)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self.run, 1

    def question(self, size: int) -> Message:
        """A question with so many bytes of arrays."""
        content = RecordDict(
            {
                "task": ConfigRecord({"word": "", "number": 7, "flags": [True, False], "raw": b"\x00\xff"}),
                "public": ArrayRecord({"tower": Array(_array(size))}),
            }
        )
        return Message(content, self.node, "query.echo", ttl=60.0, group_id="1")

    def answered(self, messages: list[Message], app: Callable[[Message, Context], Message]) -> list[Message]:
        """Ask, let the node answer, and pull what has come."""
        names = list(self.grid.push_messages(messages))
        assert set(names) == {message.metadata.message_id for message in messages}
        Node(app, self.connection(), {}).run(Once(len(messages)))
        return list(self.grid.pull_messages(names))

    def connection(self) -> Connection:
        """The node's end."""
        me = FlowerNode(node_id=self.node)

        def receive() -> tuple[Message, ObjectTree] | None:
            store = self.state.object_store
            found = fleet_handlers.pull_messages(PullMessagesRequest(node=me), self.state, store)
            messages = [message_from_proto(one) for one in found.messages_list]
            return (messages[0], found.message_object_trees[0]) if messages else None

        def send(message: Message, tree: ObjectTree, _seconds: float) -> tuple[set[str], str]:
            assert message_to_proto(message).ByteSize() <= INLINE_BYTES
            session = self.state.start_session(self.run)
            self.state.store_message_and_object_tree(message, tree, session)
            return set(self._names(tree)), session

        return Connection(
            node_id=self.node,
            receive=receive,
            send=send,
            pull_object=self.state.get_object,
            push_object=self.state.store_object,
            confirm=lambda _run, name: self.state.object_store.delete(name),
        )

    def _names(self, tree: ObjectTree) -> list[str]:
        return [tree.object_id, *(name for child in tree.children for name in self._names(child))]


def _array(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A run that has just begun."""
    return World(tmp_path / "superlink.db")


def echo(message: Message, _context: Context, size: int | None = None) -> Message:
    """Answer with what came, or with an array of another size."""
    content = RecordDict(dict(message.content))
    if size is not None:
        content["public"] = ArrayRecord({"tower": Array(_array(size))})
    return Message(content, reply_to=message)


@pytest.mark.parametrize(("asked", "told"), [(SMALL, SMALL), (LARGE, SMALL), (SMALL, LARGE), (LARGE, LARGE)])
def test_what_goes_in_comes_out(world: World, asked: int, told: int) -> None:
    """Scalars, lists, bytes, empty words and arrays, whichever way each message takes."""
    question = world.question(asked)
    (answer,) = world.answered([question], partial(echo, size=told))
    assert answer.metadata.reply_to_message_id == question.metadata.message_id
    assert answer.content.config_records["task"] == question.content.config_records["task"]
    np.testing.assert_array_equal(answer.content.array_records["public"]["tower"].numpy(), _array(told))


def test_small_messages_take_one_request_each_way(world: World) -> None:
    """No object of theirs is pushed, pulled or confirmed."""
    questions = [world.question(SMALL + number) for number in range(AT_ONCE)]
    answers = world.answered(questions, echo)
    assert len({answer.metadata.reply_to_message_id for answer in answers}) == AT_ONCE
    assert world.grid.requests == ["PushMessages", "PullMessages"]


def test_an_answer_is_given_once(world: World) -> None:
    """A second look for it finds nothing of the node's."""
    (answer,) = world.answered([world.question(SMALL)], echo)
    again = world.grid.pull_messages([answer.metadata.reply_to_message_id])
    assert not [message for message in again if message.has_content()]


def test_a_large_answer_that_is_still_on_its_way_holds_nobody_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are given at once, and it is given as soon as its last part is there."""
    store, late = world.state.store_object, list[tuple[Any, ...]]()

    def holding(*words: Any) -> None:
        late.append(words)

    questions = [world.question(SMALL), world.question(SMALL + 1)]
    monkeypatch.setattr(world.state, "store_object", holding)
    (small,) = world.answered(
        questions, lambda message, _: echo(message, _, _size_for(message, questions[0]))
    )
    assert small.metadata.reply_to_message_id == questions[1].metadata.message_id
    names = [question.metadata.message_id for question in questions]
    assert not list(world.grid.pull_messages(names[:1]))
    for words in late:
        store(*words)
    (large,) = world.grid.pull_messages(names[:1])
    assert large.metadata.reply_to_message_id == names[0]
    np.testing.assert_array_equal(large.content.array_records["public"]["tower"].numpy(), _array(LARGE))


def test_a_node_cannot_answer_for_another_by_what_its_parts_say(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SuperLink has checked the outline; what the parts say of sender and question counts for nothing."""

    def forged(root: str, parts: dict[str, bytes]) -> Any:
        whole: Any = inflate_object_from_contents(root, parts)
        whole.metadata.__dict__["_reply_to_message_id"] = "somebody else's question"
        return whole

    monkeypatch.setattr("server.coordination.inline_grid.inflate_object_from_contents", forged)
    question = world.question(SMALL)
    (answer,) = world.answered([question], partial(echo, size=LARGE))
    assert answer.has_content()
    assert answer.metadata.reply_to_message_id == question.metadata.message_id


def test_parts_that_make_no_message_are_a_fault_of_their_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told under the question that it answers, and the run goes on."""

    def spoilt(*_: object) -> Message:
        raise KeyError("no such child")

    monkeypatch.setattr("server.coordination.inline_grid.inflate_object_from_contents", spoilt)
    question = world.question(SMALL)
    (answer,) = world.answered([question], partial(echo, size=LARGE))
    assert answer.has_error()
    assert answer.metadata.reply_to_message_id == question.metadata.message_id


@pytest.mark.parametrize("end", [Stopped, RunStopped, RunNotRunningException])
def test_an_end_amid_a_large_answer_is_no_fault_of_its_node(
    world: World, monkeypatch: pytest.MonkeyPatch, end: type[Exception]
) -> None:
    """A signal may come at any moment: the process, or the run, ends all the same."""

    def ending(*_: object) -> Message:
        raise end

    monkeypatch.setattr("server.coordination.inline_grid.inflate_object_from_contents", ending)
    with pytest.raises(end):
        world.answered([world.question(SMALL)], partial(echo, size=LARGE))


def test_many_parts_take_many_looks(world: World) -> None:
    """A look asks for a few, so that a deadline can come in between; the answer comes whole in the end."""
    count = 3 * PARTS_AT_ONCE
    arrays = {f"part {number}": Array(np.full(9000 + number, number)) for number in range(count)}

    def scattered(message: Message, _context: Context) -> Message:
        return Message(RecordDict({"public": ArrayRecord(arrays)}), reply_to=message)

    question = world.question(SMALL)
    assert not world.answered([question], scattered)
    assert world.grid.requests.count("PullObject") == PARTS_AT_ONCE
    looks, found = 1, list[Message]()
    while not found:
        looks, found = looks + 1, list(world.grid.pull_messages([question.metadata.message_id]))
    assert looks >= count / PARTS_AT_ONCE
    np.testing.assert_array_equal(
        found[0].content.array_records["public"]["part 7"].numpy(), arrays["part 7"].numpy()
    )


@pytest.mark.parametrize("same", [False, True])
def test_an_answer_beyond_all_bounds_is_a_fault_of_its_node(
    world: World, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Also where it is one small piece many times over."""
    monkeypatch.setattr("server.coordination.inline_grid.LARGEST_ANSWER", 12 * INLINE_BYTES)
    array = np.zeros(20 * INLINE_BYTES, np.uint8) if same else _array(20 * INLINE_BYTES)

    def huge(message: Message, _context: Context) -> Message:
        return Message(RecordDict({"public": ArrayRecord({"tower": Array(array)})}), reply_to=message)

    (answer,) = world.answered([world.question(SMALL)], huge)
    assert answer.has_error() and "LongerThanAnySum" in str(answer.error.reason)


def test_parts_of_an_answer_that_nobody_waits_for_are_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would stay in memory until the run ends, round by round."""
    monkeypatch.setattr(world.state, "store_object", lambda *_: None)
    assert not world.answered([world.question(SMALL)], partial(echo, size=LARGE))
    assert world.grid._coming
    assert not list(world.grid.pull_messages([]))
    assert not world.grid._coming


def _size_for(message: Message, first: Message) -> int:
    return LARGE if message.metadata.message_id == first.metadata.message_id else SMALL
