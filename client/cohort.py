"""Which participants a node carries, and their shoppers as arrays.

A merchant's node carries that merchant. In simulation one node carries many participants, so that a message
serves a cohort of devices: node p of P carries the participants p, p + P, p + 2P and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.errors import ClientError
from client.shoppers import Shoppers, load_shoppers
from client.store import EventStore
from model.catalogue import PublicItems, read_public_items
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at
from proto.federation import DEVICES, MERCHANT_PART

LISTED = "participants.json"


class CohortError(ClientError, ValueError):
    """A node's configuration does not say whose events it holds."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Participants with one holder, one catalogue and one account: a merchant, or a group of devices.

    Attributes:
        participants: how many there are.
        items: (n,) catalogue indices that the unit's contributions cover, ascending.
    """

    part: str
    holder: str
    participants: int
    shoppers: Shoppers
    items: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Everything one node needs for a round."""

    name: str
    units: tuple[Unit, ...]
    ledger: Ledger
    catalogue: PublicItems

    @property
    def participants(self) -> int:
        """Number of participants that answer through this node."""
        return sum(unit.participants for unit in self.units)


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a node's data lie: the folder of a population, and which part of it the node carries.

    Attributes:
        ledger_keys: folder of the ledger's keyring; empty: `keys` beside an SQLite ledger.
    """

    population: str
    ledger: str
    ledger_keys: str = ""
    node: int
    nodes: int


def home_of(node_config: Mapping[str, object], run_config: Mapping[str, object]) -> Home:
    """Read where a node's data lie from Flower's node and run configuration.

    Raises:
        CohortError: names the missing key.
    """
    settings = {**run_config, **node_config}
    try:
        return Home(
            population=str(settings["population"]),
            ledger=str(settings["ledger"]),
            ledger_keys=str(settings.get("ledger-keys", "")),
            node=int(str(settings["partition-id"])),
            nodes=int(str(settings["num-partitions"])),
        )
    except KeyError as missing:
        raise CohortError(
            f"the configuration of this node lacks {missing}; set it with --node-config or --run-config"
        ) from None


def cohort_at(home: Home) -> Cohort:
    """Open the stores of a node's participants; kept in memory, since every round asks again."""
    folder = Path(home.population)
    written = (folder / LISTED).stat()  # the last file that a population writes: a new one is read anew
    stamp = (written.st_ino, written.st_mtime_ns)
    catalogue = _catalogue(folder / "catalogue.parquet", stamp)
    units = _units(folder, home.node, home.nodes, stamp)
    name = f"node {home.node} of {home.nodes}"
    return Cohort(name=name, units=units, ledger=_ledger(home.ledger, home.ledger_keys), catalogue=catalogue)


@lru_cache(maxsize=4096)
def _units(folder: Path, node: int, nodes: int, stamp: tuple[int, int]) -> tuple[Unit, ...]:
    """Return a node's participants; runs with other ledgers share them, so that they are in memory once."""
    listed = json.loads((folder / LISTED).read_text(encoding="utf-8"))
    catalogue = _catalogue(folder / "catalogue.parquet", stamp)
    keyring = Keyring.open(folder / "keys", create=False)
    units = [_unit(folder, keyring, merchant, catalogue) for merchant in listed["merchants"][node::nodes]]
    if devices := listed["devices"][node::nodes]:
        units.append(_device_group(folder, keyring, devices, catalogue))
    return tuple(units)


@lru_cache(maxsize=4)
def _catalogue(path: Path, stamp: tuple[int, int]) -> PublicItems:
    return read_public_items(path)


@lru_cache(maxsize=4)
def _ledger(url: str, keys: str) -> Ledger:
    return ledger_at(url, keys)


def _unit(folder: Path, keyring: Keyring, merchant: str, catalogue: PublicItems) -> Unit:
    """Return a merchant with all shoppers of its store."""
    with EventStore.open(folder / "store" / "events.db", keyring, merchant) as store:
        shoppers = load_shoppers(store, catalogue.index, None)
    items = catalogue.of_merchant(merchant)
    return Unit(
        part=MERCHANT_PART + merchant, holder=merchant, participants=1, shoppers=shoppers, items=items
    )


def _device_group(folder: Path, keyring: Keyring, devices: list[str], catalogue: PublicItems) -> Unit:
    """Return devices, each with the events of its one shopper over all merchants."""
    with EventStore.open(folder / "store" / "events.db", keyring, DEVICES) as store:
        shoppers = load_shoppers(store, catalogue.index, devices)
    items = np.arange(len(catalogue))
    return Unit(part=DEVICES, holder=DEVICES, participants=len(devices), shoppers=shoppers, items=items)
