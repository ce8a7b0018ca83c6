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
from typing import Any

import numpy as np
import pytest
from federation_world import place, population, settings, trained

from fedrank.federation.flower import free_port
from server.coordination.config import Participants
from server.registry import ModelVersion, Registry
from simulation.federated import FederationSettings, nodes_of, run_config_of
from simulation.population import Population

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Flower's simulation engine needs ray: pip install 'fedrank[simulation]'",
    ),
]


def test_flowers_own_engine_on_two_ray_workers_gives_the_same_model(tmp_path: Path) -> None:
    """Merchants and devices, one seed, no noise: its actors and our grid agree in every weight.

    The cluster has two nodes with one core each, which Flower's engine finds by RAY_ADDRESS alone.
    """
    people, wanted = cohort(tmp_path)
    with (
        ray_cluster(nodes=2) as (address, raylets),
        superlink(tmp_path / "home", RAY_ADDRESS=address) as environment,
        flower_run(people, wanted, tmp_path, environment) as run,
    ):
        busy = [False] * len(raylets)
        while run.poll() is None and not all(busy):
            busy = [seen or has_actor(pid) for seen, pid in zip(busy, raylets, strict=True)]
            time.sleep(0.1)
        said = run.communicate(timeout=240)[0]
    assert_same_model(tmp_path, trained(people, wanted, tmp_path / "ours"), said)
    assert busy == [True, True], "each node of the cluster has run an actor"


def cohort(folder: Path) -> tuple[Population, FederationSettings]:
    """Merchants and devices in several Flower nodes."""
    people = population(folder, Participants.BOTH)
    wanted = settings(participants=Participants.BOTH, devices_per_message=20)
    assert nodes_of(people, wanted) >= 2
    return people, wanted


def assert_same_model(folder: Path, ours: ModelVersion, said: str) -> None:
    """The one version that Flower's engine made has our weights and our card."""
    registry = Registry(place(folder / "flower").registry)
    assert len(registry.versions()) == 1, said[-6000:]
    theirs = registry.get(registry.versions()[0])
    for name, value in ours.weights.items():
        np.testing.assert_allclose(theirs.weights[name], value, atol=1e-6, rtol=0, err_msg=name)
    assert theirs.card == ours.card


@contextmanager
def flower_run(
    people: Population, wanted: FederationSettings, folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """`flwr run` of this project under the SuperLink of the environment."""
    where = place(folder / "flower")
    (folder / "flower").mkdir()
    run_config = run_config_of(people, wanted, where)
    words = " ".join(f"{key}={json.dumps(value)}" for key, value in run_config.items())
    size = f"num-supernodes={nodes_of(people, wanted)} client-resources-num-cpus=1"
    command = [str(BIN / "flwr"), "run", str(ROOT), "--stream"]
    command += ["--run-config", words, "--federation-config", size]
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ray_cluster(nodes: int) -> Iterator[tuple[str, list[int]]]:
    """Ray nodes with one core each on this machine: the cluster's address and the process id of each raylet."""
    cluster = started_cluster(attempts=3)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
        yield cluster.address, raylets
    finally:
        cluster.shutdown()


def started_cluster(attempts: int) -> Any:
    """The head of a new cluster; Ray gives its processes 30 s to start, which a busy machine can miss.

    A machine on which Ray itself does not start has nothing to test here, and the skip says so.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
    except Exception as error:
        if attempts == 1:
            pytest.skip(f"Ray does not start a cluster of its own on this machine: {error}")
        return started_cluster(attempts - 1)
    return cluster


def has_actor(raylet: int) -> bool:
    """Whether a node of the cluster runs one of Flower's actors, by the name that Ray gives the process."""
    names = [Path(f"/proc/{pid}/cmdline") for pid in descendants(raylet)]
    return any(b"ClientAppActor" in name.read_bytes() for name in names if name.exists())


@contextmanager
def superlink(home: Path, **variables: str) -> Iterator[dict[str, str]]:
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
        **variables,
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
