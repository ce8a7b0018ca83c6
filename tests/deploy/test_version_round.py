"""At the end of a run every node is given the signed version, and keeps it in its registry if it verifies."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from federations import provisioned

from client.app import app
from deploy.kit import CoordinatorKit, MerchantKit, open_kit
from privacy.release_keys import release_signer
from privacy.signing import ReleaseSigner
from server.coordination.exchange import Exchange
from server.coordination.version_round import Taken, offer_version
from server.errors import UntrustedVersion
from server.registry import Registry
from simulation.grid import FIRST_NODE, InProcessGrid

WEIGHTS = {"item_bias": np.arange(4, dtype=np.float32)}


@pytest.fixture
def coordinator(tmp_path: Path) -> CoordinatorKit:
    """The coordinator of a federation of two merchants."""
    kit = open_kit(provisioned(tmp_path).coordinator)
    assert isinstance(kit, CoordinatorKit)
    return kit


def merchants(coordinator: CoordinatorKit) -> list[MerchantKit]:
    """The kits of its merchants, laid out."""
    folders = sorted((coordinator.folder.parent / "merchants").iterdir())
    kits = [open_kit(folder) for folder in folders]
    for kit in kits:
        kit.lay_out_data()
    return [kit for kit in kits if isinstance(kit, MerchantKit)]


def grid_of(kits: list[MerchantKit], bare: int = 0) -> InProcessGrid:
    """The nodes of these kits, and so many that have none."""
    grid = InProcessGrid(app, nodes=len(kits) + bare, run_config={})
    for number, kit in enumerate(kits):
        words = {"kit": str(kit.folder), "data": str(kit.data)}
        grid._contexts[FIRST_NODE + number].node_config = dict(words)
    return grid


def released(coordinator: CoordinatorKit, signer: ReleaseSigner | None) -> str:
    """A version in the coordinator's registry."""
    return Registry(coordinator.data / "registry", unsigned=True).add(WEIGHTS, {"note": "x"}, signer).version


def offered(coordinator: CoordinatorKit, grid: InProcessGrid, version: str) -> Taken:
    """What comes of offering a version to the nodes of a grid."""
    return offer_version(Exchange(grid, deadline=20.0), coordinator.data / "registry", version)


def signer(coordinator: CoordinatorKit) -> ReleaseSigner:
    """The key that every kit of the federation knows."""
    return ReleaseSigner.open(coordinator.key, coordinator.federation.federation)


def test_every_connected_node_has_the_signed_version_afterwards(coordinator: CoordinatorKit) -> None:
    """In the registry that its endpoint opens, verified, not promoted; offering it again changes nothing."""
    kits = merchants(coordinator)
    version = released(coordinator, signer(coordinator))
    for _ in range(2):
        taken = offered(coordinator, grid_of(kits), version)
        assert taken == Taken(by=("node-0", "node-1"), refused=())
    for kit in kits:
        registry = Registry(kit.data / "registry")
        assert registry.versions() == [version] and registry.promoted() is None
        np.testing.assert_array_equal(registry.trusted(version).weights["item_bias"], WEIGHTS["item_bias"])


def test_a_node_that_cannot_keep_it_is_named_and_the_others_have_it(coordinator: CoordinatorKit) -> None:
    """A node without a kit, and one whose kit is broken: each with its reason."""
    good, broken = merchants(coordinator)
    (broken.folder / "federation.sig").write_bytes(b"nothing")
    version = released(coordinator, signer(coordinator))
    taken = offered(coordinator, grid_of([good, broken], bare=1), version)
    assert taken.by == ("node-0",)
    assert [line.partition(":")[0] for line in taken.refused] == ["node-1", "node-2"]
    assert "not signed by the federation's authority" in taken.refused[0] and "no kit" in taken.refused[1]
    assert Registry(broken.data / "registry").versions() == []


def test_a_version_of_another_signer_is_kept_by_nobody(coordinator: CoordinatorKit, tmp_path: Path) -> None:
    """Whoever holds the SuperLink and not the coordinator's key can put nothing into a registry."""
    stranger = release_signer(tmp_path / "keys", coordinator.federation.federation, datetime.now(UTC))
    kits = merchants(coordinator)
    taken = offered(coordinator, grid_of(kits), released(coordinator, stranger))
    assert not taken.by and all("none of the 1 known signers" in line for line in taken.refused)
    assert all(Registry(kit.data / "registry").versions() == [] for kit in kits)


def test_an_unsigned_version_is_offered_to_nobody(coordinator: CoordinatorKit) -> None:
    """The coordinator says so itself before it asks."""
    with pytest.raises(UntrustedVersion, match="not signed"):
        offered(coordinator, grid_of(merchants(coordinator)), released(coordinator, None))
