"""A federation of real processes without noise: its model, what feedback changes, and who is turned away."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_federation import (
    FIRST,
    MERCHANTS,
    World,
    alive,
    bought,
    federation,
    fedrank,
    leaving,
    signing_request,
)

from client.app import app as client_app
from deploy.membership import Operator
from deploy.provisioning import wanted_node, write_member
from deploy.run_words import run_words
from server.coordination.app import MODEL
from server.coordination.app import app as server_app
from server.registry import Registry
from simulation.grid import FIRST_NODE, InProcessGrid, run_in_process

OPEN = MERCHANTS[:2]
"""Who is in it."""
OUT_SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def open_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A federation of two merchants that agreed to masks and to no noise; no process of it outlives it."""
    words = {"trust": "none", "rounds": 1, "certificate_days": 1}
    with federation(tmp_path_factory.mktemp("open"), words=words, merchants=OPEN) as running:
        yield running
        ended = running.started.all()
        assert len(ended) >= 6, (
            "three supervisors and three parts of the coordinator; a node that is out starts anew"
        )
    assert not alive(ended)


def test_without_noise_the_model_is_that_of_a_simulation_and_feedback_changes_the_next(
    open_world: World, tmp_path: Path
) -> None:
    """Sums of masked integers against float64 sums in one process, over the same events, before and after."""
    kit = str(open_world.kits.coordinator)
    first = json.loads(fedrank("federation", "run", kit, "--json"))["version"]
    before = open_world.released()
    assert_simulated(open_world, first, tmp_path / "first")
    fedrank("promote", first, "--run", str(open_world.merchant(FIRST).data))
    with open_world.serving(FIRST) as client:
        client.record([bought("event-1")])
    second = json.loads(fedrank("federation", "run", kit, "--json"))["version"]
    assert second != first
    counts = [open_world.released()[0][name] - before[0][name] for name in sorted(before[0])]
    assert [bool(np.any(np.abs(change) > 1e-3)) for change in counts] == [True, False], "FIRST's counts alone"
    assert_simulated(open_world, second, tmp_path / "second")


def assert_simulated(world: World, version: str, folder: Path) -> None:
    """Hold a version of the real federation against the same apps in this process with ideal sums."""
    real = Registry(world.coordinator.data / "registry").get(version)
    simulated = simulation(world, folder)
    assert simulated.keys() == real.weights.keys()
    for name, weights in simulated.items():
        scale = max(1.0, float(np.abs(weights).max()))
        np.testing.assert_allclose(real.weights[name], weights, rtol=0, atol=1e-5 * scale, err_msg=name)


def simulation(world: World, folder: Path) -> dict[str, Any]:
    """Train in this process over copies of the merchants' stores, without masks and without a network."""
    config = run_words(world.coordinator) | {
        "secure-aggregation": False,
        "coordinator-identity": "",
        "declared-shoppers": "",  # names of kits; nodes of a simulation are called otherwise
        "offer-version": False,
        "journal": "",
        "signing-key": "",
        "ledger": f"sqlite:///{folder / 'ledger.db'}",
        "registry": str(folder / "registry"),
        "checkpoints": str(folder / "rounds"),
    }
    grid = InProcessGrid(client_app, nodes=len(OPEN), run_config=config)
    for place, merchant in enumerate(OPEN):
        data = folder / merchant
        shutil.copytree(world.merchant(merchant).data, data)
        (data / "participants.json").write_text(json.dumps({"merchants": [merchant], "devices": []}))
        own: dict[str, Any] = {"population": str(data), "ledger": str(data / "ledger.db")}
        grid._contexts[FIRST_NODE + place].node_config.update({**own, "partition-id": 0, "num-partitions": 1})
    state = run_in_process(server_app, grid, config)
    version = str(state.config_records[MODEL]["version"])
    return dict(Registry(folder / "registry", unsigned=True).get(version).weights)


def test_a_node_whose_certificate_expires_or_is_revoked_is_out_within_a_minute(open_world: World) -> None:
    """Nobody restarts anything: the coordinator's folder of members is enough."""
    expiring, revoked = OPEN
    operator = Operator.open(open_world.kits.root)
    merchant = operator.federation.merchant(expiring)
    start = time.time()
    ends = datetime.fromtimestamp(start, UTC) + timedelta(seconds=3)
    wanted = wanted_node(operator.federation, merchant)
    request = signing_request(open_world.merchant(expiring))
    write_member(
        open_world.kits, merchant, operator.authority.approve(request, wanted, ends - timedelta(days=1))
    )
    fedrank("merchant", "revoke", revoked, "--kits", str(open_world.kits.root))
    left = leaving(open_world, OPEN)
    assert 0 < left[expiring] - ends.timestamp() <= OUT_SECONDS
    assert 0 < left[revoked] - start <= OUT_SECONDS
    told = open_world.started.running["coordinator"].log()
    assert f"merchant {expiring} is turned away" in told
    assert "turns this node away" in open_world.started.running[revoked].log()
