"""Flower's SuperNode connection to the coordinator, with five habits of its own.

Its heartbeats come often enough that a dead node is noticed in 20 seconds; a node that died can come back at once,
since it remembers the id under which the coordinator still believes it online; the log says why a node is turned
away; an answer keeps the content that it is sent with; and who waits for a coordinator that is away can be asked to
end. Flower is pinned to one version, and tests/federation/test_flower_contract.py watches what is replaced here.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from flwr.app import Message
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, DeactivateNodeRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.primitives.asymmetric import bytes_to_private_key
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

log = logging.getLogger("fedrank.node")

HEARTBEAT_SECONDS: Final = 10
"""The shortest that Flower takes; after twice this the coordinator takes a silent node for dead."""

STOP_LOOK: Final = 0.1
"""Seconds between two looks whether to end, while a node waits for its coordinator."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What a node can do at the coordinator, in Flower's words."""

    node_id: int
    receive: Callable[[], tuple[Message, ObjectTree] | None]
    send: Callable[[Message, ObjectTree, float], tuple[set[str], str]]
    pull_object: Callable[[int, str], bytes]
    push_object: Callable[[int, str, str, bytes], None]
    confirm: Callable[[int, str], None]


@contextmanager
def connected(
    coordinator: str, authority: Path, key: bytes, remembered: Path, stop: Callable[[], bool]
) -> Iterator[Connection]:
    """Be online as the node of a key until the block ends; leaves by `SystemExit` while it waits for a coordinator.

    Args:
        coordinator: HOST:PORT; its certificate must be of the `authority` (PEM file).
        key: the node's private key, PEM.
        remembered: file that remembers the node's id.
        stop: whether it is time to end.
    """
    private = bytes_to_private_key(key)
    flower = _flower(remembered, stop)
    with flower(coordinator, False, str(authority), (private, private.public_key())) as given:
        node_id, receive, send, _get_run, _get_bundle, pull_object, push_object, confirm = given
        yield Connection(
            node_id=node_id,
            receive=receive,
            send=send,
            pull_object=pull_object,
            push_object=push_object,
            confirm=confirm,
        )


def _flower(remembered: Path, stop: Callable[[], bool]) -> Callable[..., Any]:
    """Return Flower's connection with the habits of this module put in."""
    connection = importlib.import_module("flwr.supernode.fleet_http_connection")
    heartbeat = importlib.import_module("flwr.supercore.heartbeat")
    retry = importlib.import_module("flwr.supercore.retry")

    def invoker() -> Any:
        made = retry.make_simple_http_retry_invoker()
        made.wait_function = pauses(stop)
        return made

    client = type("RememberingClient", (ReturningClient,), {"remembered": remembered})
    for module, name, value in (
        (connection, "FleetHttpClient", client),
        (connection, "HEARTBEAT_DEFAULT_INTERVAL", HEARTBEAT_SECONDS),
        (heartbeat, "HEARTBEAT_DEFAULT_INTERVAL", HEARTBEAT_SECONDS),
        (connection, "remove_content_from_message", lambda message: message),
        (connection, "make_simple_http_retry_invoker", invoker),
    ):
        if not hasattr(module, name):
            raise RuntimeError(
                f"{module.__name__} has no {name}: fedrank is pinned to another version of Flower"
            )
        setattr(module, name, value)
    request_response: Callable[..., Any] = connection.http_request_response
    return request_response


def pauses(
    stop: Callable[[], bool],
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[float], None]:
    """Return how a node waits before it tries again: it leaves by `SystemExit` as soon as it is to stop."""

    def pause(seconds: float) -> None:
        log.warning("Connection attempt failed, retrying in %.2f seconds", seconds)
        end = monotonic() + seconds
        while not stop():
            if (left := end - monotonic()) <= 0:
                return
            sleep(min(left, STOP_LOOK))
        raise SystemExit(0)

    return pause


class ReturningClient(FleetHttpClient):
    """Takes up again the place of a node that died without saying so, and says why it is turned away."""

    remembered: Path

    def ActivateNode(self, request: ActivateNodeRequest) -> ActivateNodeResponse:
        """Activate the node; where that is refused, end its earlier life first."""
        try:
            response = super().ActivateNode(request)
        except httpx.HTTPStatusError as refusal:
            if refusal.response.status_code == httpx.codes.UNAUTHORIZED or not self.remembered.is_file():
                raise
            self.DeactivateNode(DeactivateNodeRequest(node_id=int(self.remembered.read_text())))
            response = super().ActivateNode(request)
        self.remembered.write_text(str(response.node_id))
        return response

    def _send(self, context: ProtobufRequestContext, **options: Any) -> httpx.Response:
        response = super()._send(context, **options)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            log.error("the coordinator turns this node away: %s", response.text[:500])
        return response
