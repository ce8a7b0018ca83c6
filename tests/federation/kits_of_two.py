"""Kits of two merchants on loopback, for tests that need files and no rounds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deploy.federation_file import read_federation
from deploy.kit import CoordinatorKit, MerchantKit, open_kit
from deploy.kit_files import Kits
from deploy.provisioning import provision
from fedrank.federation.flower import free_port

FEDERATION = """
name = "spring"
domain = "shops.example"
coordinator = "127.0.0.1:{port}"
epsilon = 8
delta = 1e-6
rounds = 1
minimum_cohort = 2
"""
MERCHANT = """
[[merchants]]
id = "{id}"
catalogue = "{id}.csv"
shoppers = 20
"""
ITEMS = "item_id,title,category,brand,price,description"


def make_kits(folder: Path) -> Kits:
    """Provision a federation whose merchants have two items each."""
    text = FEDERATION.format(port=free_port())
    for name in ("north", "south"):
        rows = [f"{name}-{number},Thing {number},things,Brand,{number + 1}.5,text" for number in range(2)]
        (folder / f"{name}.csv").write_text("\n".join([ITEMS, *rows]) + "\n")
        text += MERCHANT.format(id=name)
    (folder / "federation.toml").write_text(text)
    return provision(read_federation(folder / "federation.toml"), folder / "kits", datetime.now(UTC))


def merchant_kit(kits: Kits, name: str) -> MerchantKit:
    """Open a merchant's kit."""
    kit = open_kit(kits.merchant(name))
    assert isinstance(kit, MerchantKit)
    return kit


def coordinator_kit(kits: Kits) -> CoordinatorKit:
    """Open the coordinator's kit."""
    kit = open_kit(kits.coordinator)
    assert isinstance(kit, CoordinatorKit)
    return kit
