"""Flower's grid, with the content of small messages inside the message itself.

Flower keeps every record and array of a message as an object that is pushed, pulled and confirmed by requests of
their own: 25 requests for a typical question and its answer. A message of at most `INLINE_BYTES` needs two. Larger
ones go Flower's way, where arrays that many nodes are sent are kept once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from flwr.app import Error, Message
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import no_object_id_recompute
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, pull_and_inflate_object_from_tree
from flwr.superlink.grid import HttpGrid

from proto.federation import INLINE_BYTES

T = TypeVar("T")

AT_ONCE: Final = 16
"""Most messages of one request, so that its body is at most as many times `INLINE_BYTES`."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 1.0
"""Pauses between looks for a part of a large answer that is still on its way, in seconds."""
LONGEST_LOOK = 30.0
"""Seconds that all looks for one answer take: meanwhile the others wait."""


class InlineGrid(HttpGrid):
    """Asks nodes through the SuperLink's runtime interface."""

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
        """Yield the answers to these messages that have come, each once."""
        for some in _slices(list(message_ids)):
            found = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=some))
            for proto, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                outline = message_from_proto(proto)
                yield self._whole(outline, tree) if tree.children else outline

    def _whole(self, outline: Message, tree: ObjectTree) -> Message:
        """Return a large answer, put together from its parts; one whose parts do not come is a fault of its node."""
        run, client = outline.metadata.run_id, self._runtime_client
        try:
            whole = pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(client.PullObject, self.node, run),
                make_confirm_message_received_fn_protobuf(client.ConfirmMessageReceived, self.node, run),
                return_type=Message,
                max_time=LONGEST_LOOK,
                initial_backoff=FIRST_WAIT,
                backoff_cap=LONGEST_WAIT,
            )
        except ObjectPullError:
            fault = Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason="parts of its answer did not arrive")
            return make_message(metadata=outline.metadata, error=fault)
        whole.metadata.__dict__["_message_id"] = tree.object_id
        return whole


def _slices(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), AT_ONCE):
        yield whole[start : start + AT_ONCE]
