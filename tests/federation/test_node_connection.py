"""A node that waits for its coordinator ends when it is asked to."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.node_connection import STOP_LOOK, connected, pauses
from fedrank.federation.flower import free_port
from privacy.certificate_authority import AUTHORITY, CertificateAuthority
from privacy.certificate_requests import key_pem, new_key

REPLACED = {
    "flwr.supercore.heartbeat": ["HEARTBEAT_DEFAULT_INTERVAL"],
    "flwr.supernode.fleet_http_connection": [
        "FleetHttpClient",
        "HEARTBEAT_DEFAULT_INTERVAL",
        "make_simple_http_retry_invoker",
        "remove_content_from_message",
    ],
}


class Clock:
    """A clock that only sleeping moves; it is time to stop when `ends` has come."""

    def __init__(self, ends: float) -> None:
        """Begin at nothing."""
        self.now, self.ends = 0.0, ends

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert 0 < seconds <= STOP_LOOK
        self.now += seconds

    def stop(self) -> bool:
        """Whether it is time."""
        return self.now >= self.ends


@pytest.mark.parametrize("ends", [0.0, 3.0, 7.95])
def test_a_pause_is_left_as_soon_as_the_node_is_to_end(ends: float) -> None:
    """Within one look, however long the pause; nothing is an error."""
    clock = Clock(ends)
    with pytest.raises(SystemExit) as left:
        pauses(clock.stop, lambda: clock.now, clock.sleep)(8.0)
    assert left.value.code == 0
    assert ends <= clock.now <= ends + 2 * STOP_LOOK


def test_a_pause_takes_its_time_where_nobody_asks() -> None:
    """Eight seconds are eight seconds."""
    clock = Clock(100.0)
    pauses(clock.stop, lambda: clock.now, clock.sleep)(8.0)
    assert clock.now == pytest.approx(8.0)


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts Flower's modules back as they were: a node replaces names in them, in a process of its own."""
    for module, names in REPLACED.items():
        for name in names:
            monkeypatch.setattr(f"{module}.{name}", getattr(importlib.import_module(module), name))


@pytest.mark.usefixtures("flower")
def test_a_node_whose_coordinator_is_away_ends_when_asked(tmp_path: Path) -> None:
    """Flower's own connection, to a port at which nobody listens: it would try for ever."""
    CertificateAuthority.make(tmp_path, datetime.now(UTC))
    looks: list[bool] = []

    def stop() -> bool:
        looks.append(True)
        return len(looks) > 2

    place = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(SystemExit) as left,
        connected(place, tmp_path / AUTHORITY, key_pem(new_key()), tmp_path / "node-id", stop),
    ):
        pass
    assert left.value.code == 0 and len(looks) == 3
