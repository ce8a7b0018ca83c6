"""Runs Flower's SuperLink with less of what every call would cost and nobody here uses.

Layers for hosted accounts, event logs and traces are left out; claims of tasks that have expired are looked for once
a second in place of several times a call; bytes are not counted. That saves about a third of its time. Flower is
pinned to one version, and tests/federation/test_flower_contract.py watches what is replaced here.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Final

from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState as state
from flwr.superlink import main as app
from starlette.middleware import Middleware

CLEAN_SECONDS: Final = 1.0
UNUSED: Final = frozenset(
    {
        "ControlSensitiveResponseMiddleware",
        "ControlLicenseMiddleware",
        "ControlEventLogMiddleware",
        "FleetEventLogMiddleware",
        "RuntimeTracingMiddleware",
    }
)
"""Layers that do nothing without Flower's hosted services."""


def main() -> None:
    """Run the SuperLink with the words of the command line."""
    layers, clean = app._get_middleware, state._cleanup_expired_task_tokens
    for owner, name, value in (
        (app, "_get_middleware", lambda: [one for one in layers() if name_of(one) not in UNUSED]),
        (state, "_cleanup_expired_task_tokens", seldom(clean, CLEAN_SECONDS)),
        (state, "store_traffic", lambda *_, **__: None),
    ):
        if not hasattr(owner, name):
            raise RuntimeError(
                f"{owner.__name__} has no {name}: fedrank is pinned to another version of Flower"
            )
        setattr(owner, name, value)
    importlib.import_module("flwr.superlink.cli.flower_superlink").flower_superlink()


def name_of(layer: Middleware) -> str:
    """Name of a layer's class."""
    return str(getattr(layer.cls, "__name__", ""))


def seldom(
    call: Callable[[Any], None], seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[Any], None]:
    """Return a method that does its work at most once in so many seconds."""
    last = float("-inf")

    def limited(self: Any) -> None:
        nonlocal last
        if monotonic() >= last + seconds:
            last = monotonic()
            call(self)

    return limited
