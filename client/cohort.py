"""Which participants a node carries, and their shoppers as arrays.

A merchant's node carries that merchant. In simulation one node carries many participants, so that a message
serves a cohort of devices: node p of P carries the participants p, p + P, p + 2P and so on. Only shoppers who have
granted training take part; a decision counts from the next round on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.consent import Purpose
from client.errors import ClientError
from client.shoppers import Shoppers, load_shoppers
from client.store import EventStore
from client.store_consent import Consents
from client.store_retention import last_change
from model.catalogue import PublicItems, read_public_items
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at, ledger_file
from proto.federation import DEVICES, MERCHANT_PART

LISTED = "participants.json"

Stamp = tuple[int, int]
"""What tells one population in a folder from the next one there."""


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
    """Return a node's participants; shoppers stay in memory while nobody decides and nothing is deleted."""
    folder = Path(home.population)
    written = (folder / LISTED).stat()  # the last file that a population writes: a new one is read anew
    stamp = (written.st_ino, written.st_mtime_ns)
    catalogue = _catalogue(folder / "catalogue.parquet", stamp)
    units = _units(folder, home.node, home.nodes, stamp)
    name = f"node {home.node} of {home.nodes}"
    return Cohort(
        name=name,
        units=units,
        ledger=_ledger(home.ledger, home.ledger_keys, _inode(home.ledger)),
        catalogue=catalogue,
    )


@dataclass
class _Kept:
    """The units of a node, and what they were loaded from.

    That is the population, the decisions of its shoppers (which go with an erasure), and their events as far as
    retention left them.
    """

    source: tuple[object, ...] = ()
    units: tuple[Unit, ...] = ()


@lru_cache(maxsize=4096)
def _kept(folder: Path, node: int, nodes: int) -> _Kept:
    """Return the place of a node's units; runs with other ledgers share it, so that they are in memory once."""
    return _Kept()


def _units(folder: Path, node: int, nodes: int, stamp: Stamp) -> tuple[Unit, ...]:
    """Return a node's participants, loaded anew where anything changed."""
    listed, kept = _listed(folder, stamp), _kept(folder, node, nodes)
    merchants, devices = listed["merchants"][node::nodes], listed["devices"][node::nodes]
    holders = [*merchants, *([DEVICES] if devices else [])]
    decisions = [
        _consents(folder, holder, stamp).stamp(devices if holder == DEVICES else None) for holder in holders
    ]
    retained = [last_change(_store(folder, holder, stamp).access) for holder in holders]
    source = (stamp, *decisions, *retained)
    if kept.source != source:
        units = [_unit(folder, merchant, stamp) for merchant in merchants]
        if devices:
            units += _device_group(folder, devices, stamp)
        kept.source, kept.units = source, tuple(units)
    return kept.units


@lru_cache(maxsize=4)
def _listed(folder: Path, stamp: Stamp) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = json.loads((folder / LISTED).read_text(encoding="utf-8"))
    return listed


@lru_cache(maxsize=4)
def _catalogue(path: Path, stamp: Stamp) -> PublicItems:
    return read_public_items(path)


@lru_cache(maxsize=4)
def _ledger(url: str, keys: str, inode: int) -> Ledger:
    return ledger_at(url, keys)


def _inode(ledger: str) -> int:
    """Return which file lies at the ledger's path, if any: one that was put in its place is opened anew."""
    file = ledger_file(ledger)
    return file.stat().st_ino if file is not None and file.exists() else 0


@lru_cache(maxsize=64)
def _store(folder: Path, holder: str, stamp: Stamp) -> EventStore:
    keyring = Keyring.open(folder / "keys", create=False)
    return EventStore.open(folder / "store" / "events.db", keyring, holder)


def _consents(folder: Path, holder: str, stamp: Stamp) -> Consents:
    return Consents(_store(folder, holder, stamp).access)


def _unit(folder: Path, merchant: str, stamp: Stamp) -> Unit:
    """Return a merchant with those shoppers of its store who granted training."""
    catalogue = _catalogue(folder / "catalogue.parquet", stamp)
    granted = sorted(_consents(folder, merchant, stamp).granted(Purpose.TRAINING))
    shoppers = load_shoppers(_store(folder, merchant, stamp), catalogue.index, granted)
    items = catalogue.of_merchant(merchant)
    return Unit(
        part=MERCHANT_PART + merchant, holder=merchant, participants=1, shoppers=shoppers, items=items
    )


def _device_group(folder: Path, devices: list[str], stamp: Stamp) -> list[Unit]:
    """Return the devices whose shopper granted training, with the events over all merchants; none is no unit."""
    granted = sorted(_consents(folder, DEVICES, stamp).granted(Purpose.TRAINING, devices))
    if not granted:
        return []
    catalogue = _catalogue(folder / "catalogue.parquet", stamp)
    shoppers = load_shoppers(_store(folder, DEVICES, stamp), catalogue.index, granted)
    items = np.arange(len(catalogue))
    return [Unit(part=DEVICES, holder=DEVICES, participants=len(granted), shoppers=shoppers, items=items)]
