"""The same apps under `flwr run .` with Flower's own simulation engine give the same model."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from federation_world import place, population, settings, trained

from server.coordination.config import Participants
from server.registry import Registry
from simulation.federated import nodes_of, run_config_of

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Flower's simulation engine needs ray: pip install 'fedrank[simulation]'",
    ),
]


def test_flowers_own_engine_gives_the_same_model(tmp_path: Path) -> None:
    """Merchants and devices, one seed, no noise: Ray's actors and our grid agree in every weight."""
    people = population(tmp_path, Participants.BOTH)
    wanted = settings(participants=Participants.BOTH, devices_per_message=20)
    nodes = nodes_of(people, wanted)
    assert nodes >= 2
    ours = trained(people, wanted, tmp_path / "ours")
    where = place(tmp_path / "flower")
    (tmp_path / "flower").mkdir()
    words = " ".join(
        f"{key}={json.dumps(value)}" for key, value in run_config_of(people, wanted, where).items()
    )
    size = f"num-supernodes={nodes} client-resources-num-cpus=1"
    with superlink(tmp_path / "home") as environment:
        done = subprocess.run(
            [
                BIN / "flwr",
                "run",
                str(ROOT),
                "--stream",
                "--run-config",
                words,
                *("--federation-config", size),
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
    registry = Registry(where.registry)
    assert len(registry.versions()) == 1, done.stdout[-3000:] + done.stderr[-3000:]
    theirs = registry.get(registry.versions()[0])
    for name, value in ours.weights.items():
        np.testing.assert_allclose(theirs.weights[name], value, atol=1e-6, rtol=0, err_msg=name)
    assert theirs.card == ours.card


@contextmanager
def superlink(home: Path) -> Iterator[dict[str, str]]:
    """Run a SuperLink of our own for the time of the block; afterwards no process of it is left."""
    port, control = free_port(), free_port()
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n\n[superlink.test]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(BIN / "flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--control-api-address", f"127.0.0.1:{control}", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "superlink.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=home, start_new_session=True
        )
        try:
            wait_for(port, process)
            yield environment
        finally:
            end(process)


def free_port() -> int:
    """A TCP port of this machine that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the port answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"flower-superlink did not open port {port}; see its log in FLWR_HOME")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it has started, each by its own id."""
    started = descendants(process.pid)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> list[int]:
    """Process ids of all children, their children and so on."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
