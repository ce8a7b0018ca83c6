"""One process runs a kit, at a port that nobody else has; a second one is told so and changes nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from kits_of_two import coordinator_kit, make_kits, merchant_kit
from typer.testing import CliRunner

from deploy.errors import KitError
from fedrank.cli import app
from fedrank.federation.exclusive import alone, refuse_taken_port
from fedrank.federation.flower import free_port
from server.coordination.superlink_files import SuperLinkFiles


@pytest.mark.parametrize("part", ["coordinator", "merchant"])
def test_a_kit_that_runs_is_not_started_again(tmp_path: Path, part: str) -> None:
    """Else a second coordinator would take the first one's way to its SuperLink, and two nodes share one name."""
    kits = make_kits(tmp_path)
    kit = coordinator_kit(kits) if part == "coordinator" else merchant_kit(kits, "north")
    kit.lay_out_data()
    with alone(kit):
        done = CliRunner().invoke(app, [part, "start", str(kit.folder)])
    assert isinstance(done.exception, KitError) and "is running already" in str(done.exception)
    with alone(kit):
        pass


def test_a_coordinator_whose_port_is_taken_ends_at_once_and_names_it(tmp_path: Path) -> None:
    """Nothing is ready, and what tells other commands the way to the SuperLink is as it was."""
    kit = coordinator_kit(make_kits(tmp_path))
    endpoint = SuperLinkFiles.make(kit.data).endpoint
    endpoint.write_text(json.dumps({"port": 1}), encoding="ascii")
    with socket.create_server((kit.address.host, kit.address.port)):
        done = CliRunner().invoke(app, ["coordinator", "start", str(kit.folder)])
    assert isinstance(done.exception, KitError)
    assert f"127.0.0.1:{kit.address.port} (Address already in use)" in str(done.exception)
    assert "ready" not in done.output and json.loads(endpoint.read_text()) == {"port": 1}


def test_a_free_port_and_an_address_of_another_machine_are_told_apart() -> None:
    """Looking leaves the port free."""
    port = free_port()
    for _ in range(2):
        refuse_taken_port("127.0.0.1", port)
    with pytest.raises(KitError, match=r"192\.0\.2\.1.*--listen"):
        refuse_taken_port("192.0.2.1", port)


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where the folder has to be."""
    kit = merchant_kit(make_kits(tmp_path), "north")
    kit.data.rmdir()
    kit.data.write_text("")
    done = CliRunner().invoke(app, ["merchant", "start", str(kit.folder)])
    assert isinstance(done.exception, KitError)
    assert f"{kit.data} cannot be made (File exists)" in str(done.exception)
