"""Coordinator and nodes as real processes on loopback: they come back when killed, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kits_of_two import coordinator_kit, make_kits, merchant_kit

from deploy.kit_files import Kits
from evaluation.load.processes import family
from server.coordination.superlink import RegisteredNode, SuperLink
from server.coordination.superlink_files import SuperLinkError

pytestmark = pytest.mark.slow

DEADLINE = 90.0
MEMBERS = {"north", "south"}
FEDRANK = "from fedrank.cli import main; main()"


def until(what: Callable[[], bool], why: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.1)


@dataclass
class Federation:
    """Some merchants and a coordinator that run."""

    kits: Kits
    logs: Path
    started: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start the processes of kits, and wait for the lines that say that they are ready."""
        for name in names:
            self._begin(name)
        for name in names:
            output = self.started[name].stdout
            assert output is not None
            assert "ready" in json.loads(output.readline() or "{}"), self.log(name)

    def _begin(self, name: str) -> None:
        words = ["coordinator", "start", str(self.kits.coordinator)]
        if name != "coordinator":
            words = ["merchant", "start", str(self.kits.merchant(name))]
        with (self.logs / name).open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", FEDRANK, *words, "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.started[name] = process

    def log(self, name: str) -> str:
        """What a kit's processes have told."""
        return (self.logs / name).read_text()

    def child(self, name: str, target: str) -> int:
        """Process id of one child of a kit's supervisor; 0 while there is none."""
        parent = self.started[name].pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for child in children:
            if target in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
        return 0

    def nodes(self) -> dict[str, RegisteredNode]:
        """The registered nodes by merchant; none while the SuperLink is away."""
        try:
            with SuperLink.open(coordinator_kit(self.kits).data) as superlink:
                return {node.merchant: node for node in superlink.nodes()}
        except (SuperLinkError, OSError):
            return {}

    def online(self) -> set[str]:
        """Merchants whose node is connected."""
        return {merchant for merchant, node in self.nodes().items() if node.online}


def gone(pid: int) -> bool:
    """Whether a process does nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One federation for all tests of this file; each leaves it as it finds it."""
    folder = tmp_path_factory.mktemp("federation")
    (folder / "logs").mkdir()
    federation = Federation(make_kits(folder), folder / "logs")
    everybody: list[int] = []
    try:
        federation.start("coordinator", "north", "south")
        yield federation
        everybody = [pid for process in federation.started.values() for pid in family(process.pid)]
    finally:
        for process in federation.started.values():
            process.terminate()
        for process in federation.started.values():
            process.wait(DEADLINE)
    assert all(map(gone, everybody))


def test_members_are_registered_by_themselves_and_come_online(federation: Federation) -> None:
    """Kits and one command for each make a federation."""
    until(lambda: federation.online() >= MEMBERS, "the nodes never came online")


def test_nothing_of_the_coordinator_listens_but_the_door_and_one_loopback_port(
    federation: Federation,
) -> None:
    """The SuperLink, whose control routes ask for no credentials, cannot be reached from elsewhere."""
    pids = set(family(federation.started["coordinator"].pid))
    listening = {address for pid in pids for address in addresses(pid)}
    assert {host for host, _ in listening} == {"127.0.0.1"}
    assert len(listening) == 2
    assert coordinator_kit(federation.kits).address.port in {port for _, port in listening}


def test_a_merchants_node_listens_nowhere(federation: Federation) -> None:
    """Its connections go out."""
    for pid in family(federation.started["north"].pid):
        assert addresses(pid) == set()


def test_a_killed_node_is_back_at_once_under_its_own_name(federation: Federation) -> None:
    """It does not wait until the coordinator has noticed its death."""
    until(lambda: federation.online() >= MEMBERS, "the nodes never came online")
    before = federation.nodes()["north"]
    killed = federation.child("north", "client.node")
    os.kill(killed, signal.SIGKILL)
    place = merchant_kit(federation.kits, "north").data / "flower" / "node.ready"
    place.unlink()
    until(place.is_file, "the node never came back")
    assert federation.child("north", "client.node") not in (0, killed)
    after = federation.nodes()["north"]
    assert (after.id, after.online) == (before.id, True)


def test_a_killed_superlink_comes_back_and_knows_its_nodes(federation: Federation) -> None:
    """What it knows lies in a database file; the nodes find it again."""
    until(lambda: federation.online() >= MEMBERS, "the nodes never came online")
    before = {merchant: node.id for merchant, node in federation.nodes().items()}
    os.kill(federation.child("coordinator", "superlink_process"), signal.SIGKILL)
    until(lambda: federation.nodes() == {}, "the SuperLink did not die")
    until(lambda: federation.online() >= MEMBERS, "the nodes never came back")
    assert {merchant: node.id for merchant, node in federation.nodes().items()} == before


@pytest.mark.parametrize("target", ["fleet_process", "coordination.executor"])
def test_a_killed_child_of_the_coordinator_comes_back(federation: Federation, target: str) -> None:
    """Door and executor are started anew."""
    killed = federation.child("coordinator", target)
    os.kill(killed, signal.SIGKILL)
    until(lambda: federation.child("coordinator", target) not in (0, killed), f"{target} never came back")


def test_no_process_outlives_a_supervisor_that_is_killed(federation: Federation) -> None:
    """Even SIGKILL leaves no node that would go on under a kit that somebody starts again."""
    supervisor = federation.started["south"]
    children = family(supervisor.pid)[1:]
    assert children
    supervisor.kill()
    supervisor.wait(DEADLINE)
    until(lambda: all(map(gone, children)), "children outlived their supervisor")
    federation.start("south")
    until(lambda: federation.online() >= MEMBERS, "the node never came back")


def addresses(pid: int) -> set[tuple[str, int]]:
    """Where a process listens (IPv4 and IPv6), as the kernel says it."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it may be closed meanwhile
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                host, port = words[1].split(":")
                found.add(("127.0.0.1" if host == "0100007F" else host, int(port, 16)))
    return found
