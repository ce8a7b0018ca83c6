"""A Flower grid in this process: the unchanged ServerApp talks to the unchanged ClientApp without Ray.

Flower's own engine starts actors and schedules every node; one process needs none of that (docs/adr/0003).
Messages are made by Flower's classes, so what works here works under `flwr run`; a test compares both models.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulation.federated import RunConfig

COORDINATOR_NODE = 1
FIRST_NODE = 1_000
CLIENT_FAILED = 2  # flwr.app.error.ErrorCode.CLIENT_APP_RAISED_EXCEPTION


def node_name(partition: int) -> str:
    """Return the name under which a simulated node is registered."""
    return f"node-{partition}"


class InProcessGrid(Grid):
    """Delivers each message to the ClientApp at once; replies come one by one, so memory stays flat."""

    def __init__(
        self,
        client_app: ClientApp,
        *,
        nodes: int,
        run_config: RunConfig,
        identities: Path | None = None,
        on_reply: Callable[[], None] = lambda: None,
    ) -> None:
        """Make `nodes` nodes; node p knows that it is partition p of `nodes`, and where its identity lies."""
        self._app = client_app
        self._run = Run.create_empty(run_id=1)
        self._on_reply = on_reply
        self._contexts = {
            FIRST_NODE + p: Context(
                run_id=1,
                node_id=FIRST_NODE + p,
                node_config={
                    "partition-id": p,
                    "num-partitions": nodes,
                    **({"identity": str(identities / node_name(p))} if identities else {}),
                },
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for p in range(nodes)
        }
        self._ids = itertools.count(1)
        self._waiting: dict[str, Message] = {}
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, COORDINATOR_NODE

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
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return all nodes under their names, in order."""
        return [NodeInfo(node_id=node, name=node_name(node - FIRST_NODE)) for node in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until their replies are pulled."""
        pushed = []
        for message in messages:
            identity = f"in-process-{next(self._ids)}"
            message.metadata.__dict__["_message_id"] = identity
            self._waiting[identity] = message
            pushed.append(identity)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Deliver the given messages one by one and yield each reply, once."""
        for key in message_ids:
            if key in self._waiting:
                yield self._deliver(self._waiting.pop(key))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yield the reply to each message; messages left when the timeout has passed get no reply."""
        end = None if timeout is None else time.monotonic() + timeout
        for message in messages:
            if end is not None and time.monotonic() > end:
                return
            yield from self.pull_messages(self.push_messages([message]))

    def _deliver(self, message: Message) -> Message:
        """Return the ClientApp's reply; an exception becomes an error reply, as under Flower's engine."""
        context = self._contexts[message.metadata.dst_node_id]
        TaskIdentity.node_id = context.node_id
        try:
            return self._app(message, context)
        except Exception as failure:
            reason = f"{type(failure).__name__}: {failure}"
            return Message(Error(code=CLIENT_FAILED, reason=reason), reply_to=message)
        finally:
            TaskIdentity.node_id = COORDINATOR_NODE
            self._on_reply()


def run_in_process(server_app: ServerApp, grid: Grid, run_config: RunConfig) -> RecordDict:
    """Run a ServerApp over the grid to its end and return the state that it leaves."""
    context = Context(
        run_id=1, node_id=COORDINATOR_NODE, node_config={}, state=RecordDict(), run_config=dict(run_config)
    )
    server_app(grid, context)
    return context.state
