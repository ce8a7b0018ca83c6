"""What all children of a federation have in common: Flower's environment, readiness files, free ports."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fedrank.federation.child import VERBOSE
from proto.readiness import READY

LOOPBACK: Final = "127.0.0.1"


def environment(folder: Path, *, verbose: bool) -> dict[str, str]:
    """Flower's settings: its home in `folder`; no telemetry, no update check, no installation while it runs."""
    return {
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_LOG_LEVEL": "CRITICAL",  # Flower's own handler; the child's shows its records
        VERBOSE: "1" if verbose else "0",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def telling(
    folder: Path, name: str, settings: Mapping[str, str]
) -> tuple[dict[str, str], Callable[[], bool]]:
    """Return a child's settings with the file that it makes when it is ready, and a look at that file."""
    place = folder / f"{name}.ready"
    place.unlink(missing_ok=True)
    return {**settings, READY: str(place)}, place.is_file


def listening(port: int) -> Callable[[], bool]:
    """Return a look whether something listens on a port of this machine."""

    def look() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((LOOPBACK, port)) == 0

    return look


def free_port() -> int:
    """A port of this machine's loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
