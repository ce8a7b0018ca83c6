"""Small federations for tests: two merchants with two items each, and one endpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deploy.federation_file import read_federation
from deploy.federation_model import Federation
from deploy.kit_files import Kits
from deploy.provisioning import provision

NOW = datetime.now(UTC).replace(microsecond=0)
"""Certificates of tests are valid from now on, for the code under test may look at the real clock."""

TEXT = """
name = "spring"
domain = "shops.example"
coordinator = "hub.shops.example:9092"
epsilon = 8
delta = 1e-6
rounds = 3
minimum_cohort = 2

[[merchants]]
id = "north"
catalogue = "north.csv"
shoppers = 1200
serving = "rank.north.example:8443"

[[merchants]]
id = "south"
catalogue = "south.csv"
shoppers = 300

[settings]
dim = 16
clock = "seconds"
"""


def write_items(path: Path, prefix: str) -> Path:
    """Write a merchant's public items, whose ids begin with `prefix`."""
    lines = ["item_id,title,category,brand,price,description"]
    lines += [f"{prefix}1,Tea,drinks,Leaf,3.5,green", f"{prefix}2,Pot,kitchen,Leaf,20,"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_federation(folder: Path, text: str = TEXT) -> Path:
    """Write a federation file and the merchants' items beside it; returns the file."""
    write_items(folder / "north.csv", "n")
    write_items(folder / "south.csv", "s")
    path = folder / "federation.toml"
    path.write_text(text, encoding="utf-8")
    return path


def federation(folder: Path, text: str = TEXT) -> Federation:
    """The federation of a text."""
    return read_federation(write_federation(folder, text))


def provisioned(folder: Path, text: str = TEXT) -> Kits:
    """All kits of a federation, in `folder/kits`."""
    return provision(federation(folder, text), folder / "kits", NOW)
