"""Flower's grid, with the content of small messages inside the message itself.

Flower keeps every record and array of a message as an object that is pushed, pulled and confirmed by requests of
their own: 25 requests for a typical question and its answer. A message of at most `INLINE_BYTES` needs two. Larger
ones go Flower's way, where arrays that many nodes are sent are kept once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import httpx
from flwr.app import Array, Error, Message
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_children_ids_from_object_content,
    get_object_type_from_object_content,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, inflate_object_from_contents
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from proto.federation import INLINE_BYTES, LARGEST_LAYOUT
from server.coordination.ending import Ending

T = TypeVar("T")

AT_ONCE: Final = 16
"""Most messages of one request, so that its body is at most as many times `INLINE_BYTES`."""
PARTS_AT_ONCE: Final = 32
"""Most parts of one answer that a look asks for: whatever a node sends, the deadline is looked at in between."""
LARGEST_ANSWER: Final = 2 * 8 * LARGEST_LAYOUT + 16 * INLINE_BYTES
"""Most bytes of an answer: pieces of the longest sum in double precision, the sum itself, and what is around it."""


class InlineGrid(HttpGrid):
    """Asks nodes through the SuperLink's runtime interface."""

    def __init__(self, *words: Any, **options: Any) -> None:
        """Take what Flower's grid takes."""
        super().__init__(*words, **options)
        self._coming: dict[str, Parts] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; each has its id afterwards. Returns the ids, in no order."""
        named, large = [], []
        with no_object_id_recompute():
            for message in messages:
                name = message.metadata.__dict__["_message_id"] = message.object_id
                proto = message_to_proto(message)
                if proto.ByteSize() <= INLINE_BYTES:
                    named.append((name, proto))
                else:
                    large.append(message)
        for some in _slices(named):
            request = PushAppMessagesRequest(
                messages_list=[proto for _, proto in some],
                message_object_trees=[ObjectTree(object_id=name) for name, _ in some],
            )
            self._runtime_client.PushMessages(request)
        return [*(name for name, _ in named), *super().push_messages(large)]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Yield the answers to these messages that have come whole, each once; waits for none.

        What came of the answer to another message is forgotten: nobody asks for it any more.
        """
        asked = list(message_ids)
        self._coming = {name: self._coming[name] for name in asked if name in self._coming}
        for some in _slices([name for name in asked if name not in self._coming]):
            found = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=some))
            for proto, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                outline = message_from_proto(proto)
                if tree.children:
                    self._coming[outline.metadata.reply_to_message_id] = Parts(outline, tree)
                else:
                    yield outline
        for question in [name for name in asked if name in self._coming]:
            answer = self._coming[question].answer(self._runtime_client, self.node)
            if answer is not None:
                del self._coming[question]
                yield answer


class LongerThanAnySum(Exception):
    """An answer takes more memory than any that is asked for."""


class Parts:
    """A large answer on its way: its outline, and those of its parts that have come."""

    def __init__(self, outline: Message, tree: ObjectTree) -> None:
        """Have none of the parts that the tree names."""
        self._outline, self._root = outline, tree.object_id
        self._missing = list(dict.fromkeys(one.object_id for one in iterate_object_tree(tree)))[::-1]
        self._found: dict[str, bytes] = {}
        self._size = 0

    def answer(self, client: RuntimeHttpClient, node: Node) -> Message | None:
        """Return the answer, None where parts are still missing, and a fault of its node where it is none.

        Whose answer it is says the outline, which the SuperLink has checked; the parts could say another.
        """
        run = self._outline.metadata.run_id
        pull = make_pull_object_fn_protobuf(client.PullObject, node, run)
        try:
            for _ in range(PARTS_AT_ONCE):
                if self._missing:
                    self._take(pull(self._missing[-1]))
            if self._missing:
                return None
            whole = inflate_object_from_contents(self._root, self._found)
            if not isinstance(whole, Message) or not whole.has_content():
                raise TypeError("no message with content")
        except ObjectUnavailableError:
            return None
        except (httpx.HTTPError, RunNotRunningException, Ending):  # none of them is the node's doing
            raise
        except Exception as error:  # what a node sends may break any rule of Flower's
            return self._fault(type(error).__name__)
        make_confirm_message_received_fn_protobuf(client.ConfirmMessageReceived, node, run)(self._root)
        return make_message(metadata=self._outline.metadata, content=whole.content)

    def _take(self, content: bytes) -> None:
        """Keep the next part, unless the answer grows beyond its bound.

        The pieces of an array come before it, and each may be in it many times.
        """
        self._size += len(content)
        if get_object_type_from_object_content(content) == Array.__qualname__:
            pieces = get_object_children_ids_from_object_content(content)
            places = json.loads(get_object_body(content, Array))["arraychunk_ids"]
            self._size += sum(len(self._found[pieces[place]]) for place in places)
        if self._size > LARGEST_ANSWER:
            raise LongerThanAnySum
        self._found[self._missing.pop()] = content

    def _fault(self, kind: str) -> Message:
        reason = f"the parts of its answer cannot be put together ({kind})"
        return make_message(
            metadata=self._outline.metadata, error=Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason=reason)
        )


def _slices(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), AT_ONCE):
        yield whole[start : start + AT_ONCE]
