"""Talks to the coordinator's running SuperLink: submits runs, says how they fare, and knows the registered nodes.

Everything goes over the loopback address of the machine: the control routes ask for no credentials, and the fleet
proxy does not forward them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control.control_http_client import ControlHttpClient

from privacy.certificate_authority import AUTHORITY
from privacy.key_files import create_private
from server.coordination.bundle import RUN, bundle
from server.coordination.superlink_files import SuperLinkError, SuperLinkFiles

Scalar = str | int | float | bool
FINISHED: Final = "finished"
COMPLETED: Final = "completed"
ONLINE: Final = "online"
_UNREGISTERED: Final = "unregistered"
_NAME_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run fares.

    Attributes:
        status: `pending`, `starting`, `running` or `finished`.
        outcome: of a finished run: `completed`, `failed` or `stopped`.
        details: why it failed, in the words of the coordinator.
    """

    status: str
    outcome: str = ""
    details: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status == FINISHED

    @property
    def completed(self) -> bool:
        """Whether it reached its end."""
        return self.finished and self.outcome == COMPLETED


@dataclass(frozen=True, kw_only=True)
class RegisteredNode:
    """A merchant's node as the SuperLink knows it; `online_until` in Unix seconds, 0 where it never came."""

    id: int
    merchant: str
    public_key: bytes
    status: str
    online_until: float

    @property
    def online(self) -> bool:
        """Whether it is connected, as far as its heartbeats tell."""
        return self.status == ONLINE


class SuperLink:
    """The running SuperLink of one coordinator."""

    def __init__(self, files: SuperLinkFiles, client: ControlHttpClient) -> None:
        """Keep a client; `open` makes one."""
        self._files, self._client = files, client

    @classmethod
    @contextmanager
    def open(cls, data: Path) -> Iterator[Self]:
        """Connect to the SuperLink whose kit's data folder is `data`.

        Raises:
            SuperLinkError: it was never started.
        """
        files = SuperLinkFiles.of(data)
        address, authority = files.address(), (files.authority / AUTHORITY).read_bytes()
        with ControlHttpClient.from_server_address(address, False, authority, interceptors=()) as client:
            yield cls(files, client)

    def submit(self, run_config: Mapping[str, Scalar]) -> int:
        """Submit a run and return its id; the executor takes it up when it is free.

        Raises:
            SuperLinkError: the SuperLink is not running or refuses.
        """
        name = secrets.token_hex(_NAME_BYTES)
        create_private(self._files.runs / name, json.dumps(dict(run_config), sort_keys=True).encode())
        request = StartRunRequest(
            fab=Fab(content=bundle()), override_config=user_config_to_proto({RUN: name})
        )
        with _explained("the run was not taken"):
            run_id: int = self._client.StartRun(request).run_id
        return run_id

    def state(self, run_id: int) -> RunState:
        """Say how a run fares; raises `SuperLinkError` where it is unknown or the SuperLink is not running."""
        with _explained(f"run {run_id} cannot be looked at"):
            status = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        return RunState(status=status.status, outcome=status.sub_status, details=status.details)

    def stop(self, run_id: int) -> None:
        """End a run that is not finished; raises `SuperLinkError`."""
        with _explained(f"run {run_id} cannot be stopped"):
            self._client.StopRun(StopRunRequest(run_id=run_id))

    def unfinished(self) -> list[int]:
        """Ids of the runs that have begun and are not finished, oldest first; raises `SuperLinkError`."""
        with _explained("the runs cannot be listed"):
            runs = self._client.ListRuns(ListRunsRequest()).run_dict
        begun = [run for run in runs.values() if run.status.status in ("starting", "running")]
        return [run.run_id for run in sorted(begun, key=lambda run: str(run.pending_at))]

    def nodes(self) -> list[RegisteredNode]:
        """Registered nodes, by merchant; raises `SuperLinkError`."""
        with _explained("the nodes cannot be listed"):
            found = self._client.ListNodes(ListNodesRequest()).nodes_info
        known = [
            RegisteredNode(
                id=node.node_id,
                merchant=node.name,
                public_key=node.public_key,
                status=node.status,
                online_until=node.online_until,
            )
            for node in found
            if node.status != _UNREGISTERED
        ]
        return sorted(known, key=lambda node: (node.merchant, node.id))

    def register(self, merchant: str, public_key: bytes) -> int:
        """Let the node with this public key (PEM) activate itself; returns its id. Raises `SuperLinkError`."""
        with _explained(f"the node of merchant {merchant} cannot be registered"):
            request = RegisterNodeRequest(public_key=public_key, name=merchant)
            node_id: int = self._client.RegisterNode(request).node_id
        return node_id

    def unregister(self, node: RegisteredNode) -> None:
        """Forget a node; its key can never be registered again. Raises `SuperLinkError`."""
        with _explained(f"the node of merchant {node.merchant} cannot be removed"):
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node.id))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Let an error of the connection come as a `SuperLinkError`."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise SuperLinkError(f"{what}: the SuperLink answers {error.response.text[:500]}") from error
    except httpx.HTTPError as error:
        raise SuperLinkError(
            f"{what}: the SuperLink does not answer ({type(error).__name__}); is `fedrank coordinator start` running?"
        ) from error
