"""Runs Flower's SuperNode at a merchant's site, with four habits of its own.

It asks for messages at a `Pace` in place of every 3 seconds; its heartbeats come often enough that a dead node is
noticed in 20 seconds; one that died can come back at once, since it remembers the id under which the coordinator
still believes it online; and it reads the key of the node's certificate, which is no key of OpenSSH. Flower is
pinned to one version, and tests/federation/test_flower_contract.py watches what is replaced here.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from pathlib import Path
from typing import Any, Final

import httpx
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, DeactivateNodeRequest
from flwr.supercore.primitives.asymmetric import bytes_to_private_key
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.node_pace import Pace

log = logging.getLogger("fedrank.node")

NODE_ID: Final = "FEDRANK_NODE_ID"
"""Environment variable with the file that remembers the node's id."""
READY: Final = "FEDRANK_READY"
"""Environment variable with the file that a child makes when it does its work."""
LONGEST_PAUSE: Final = 1.0
REPLY_SECONDS: Final = 0.02
"""How often the node looks whether its own executor has answered: a look at memory."""
HEARTBEAT_SECONDS: Final = 10
"""The shortest that Flower takes; after twice this the coordinator takes a silent node for dead."""


class PacedTime:
    """Stands in the place of `time` in Flower's main loop, which sleeps 3 s without work and 0.5 s for a reply."""

    def __init__(self, pace: Pace) -> None:
        """Sleep at this pace."""
        self._pace = pace

    def sleep(self, seconds: float) -> None:
        """Sleep for less than Flower asks."""
        if seconds < 1:
            self._pace.worked()
            time.sleep(REPLY_SECONDS)
        else:
            self._pace.pause()


class ReturningClient(FleetHttpClient):
    """Takes up again the place of a node that died without saying so, and says why it is turned away."""

    def ActivateNode(self, request: ActivateNodeRequest) -> ActivateNodeResponse:
        """Activate the node; where that is refused, end its earlier life first."""
        place = Path(os.environ[NODE_ID])
        try:
            response = super().ActivateNode(request)
        except httpx.HTTPStatusError:
            if not place.is_file():
                raise
            self.DeactivateNode(DeactivateNodeRequest(node_id=int(place.read_text())))
            response = super().ActivateNode(request)
        place.write_text(str(response.node_id))
        if ready := os.environ.get(READY):
            Path(ready).touch()
        return response

    def _send(self, context: ProtobufRequestContext, **options: Any) -> httpx.Response:
        response = super()._send(context, **options)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            log.error("the coordinator turns this node away: %s", response.text[:500])
        return response


def main() -> None:
    """Run the SuperNode with the words of the command line."""
    # By name: the packages hide these modules behind functions that are called the same.
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    connection = importlib.import_module("flwr.supernode.fleet_http_connection")
    command = importlib.import_module("flwr.supernode.cli.flower_supernode")
    replaced = (
        (loop, "time", PacedTime(Pace(LONGEST_PAUSE))),
        (connection, "FleetHttpClient", ReturningClient),
        (connection, "HEARTBEAT_DEFAULT_INTERVAL", HEARTBEAT_SECONDS),
        (command, "load_ssh_private_key", lambda key, _password: bytes_to_private_key(key)),
    )
    for module, name, value in replaced:
        if not hasattr(module, name):
            raise RuntimeError(
                f"{module.__name__} has no {name}: this is not the Flower that fedrank is pinned to"
            )
        setattr(module, name, value)
    command.flower_supernode()
