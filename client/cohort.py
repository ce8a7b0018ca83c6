"""Which participants a node carries, and their shoppers as arrays.

A merchant's node carries that merchant. In simulation one node carries many participants, so that a message
serves a cohort of devices: node p of P carries the participants p, p + P, p + 2P and so on. Only shoppers who have
granted training take part; a decision counts from the next round on, and so do new events, as soon as reading the
store anew is worth its time.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.consent import Purpose
from client.home import CohortError, Home, home_of
from client.shoppers import Shoppers, load_shoppers
from client.store import EventStore
from client.store_consent import Consents
from client.store_reading import growth
from client.store_retention import last_change
from model.catalogue import PublicItems, read_public_items
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at, ledger_file
from proto.federation import DEVICES, MERCHANT_PART

LISTED = "participants.json"
CATALOGUE = "catalogue.parquet"
PATIENCE = 10.0
"""New events are read when this many times the last reading's duration has passed since it."""

__all__ = ["Cohort", "CohortError", "Home", "Unit", "cohort_at", "home_of"]

Stamp = tuple[int, int]
"""What tells one population in a folder from the next one there."""


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


def cohort_at(home: Home) -> Cohort:
    """Return a node's participants; shoppers stay in memory while nothing of them changes."""
    folder = Path(home.population)
    # The last file that a population writes, or the catalogue that a kit brings: a new one is read anew.
    written = (folder / (CATALOGUE if home.merchant else LISTED)).stat()
    stamp = (written.st_ino, written.st_mtime_ns)
    return Cohort(
        name=home.merchant or f"node {home.node} of {home.nodes}",
        units=_units(home, stamp),
        ledger=_ledger(home.ledger, home.ledger_keys, _inode(home.ledger)),
        catalogue=_catalogue(folder / CATALOGUE, stamp),
    )


@dataclass
class _Kept:
    """The units of a node, and what they were loaded from.

    That is the population, the decisions of its shoppers (which go with an erasure), their events as far as retention
    left them, and how many came.

    Attributes:
        due: when new events are worth another reading, on the monotonic clock.
    """

    source: tuple[object, ...] = ()
    grown: tuple[object, ...] = ()
    due: float = 0.0
    units: tuple[Unit, ...] = ()


@lru_cache(maxsize=4096)
def _kept(folder: Path, node: int, nodes: int) -> _Kept:
    """Return the place of a node's units; runs with other ledgers share it, so that they are in memory once."""
    return _Kept()


def _units(home: Home, stamp: Stamp) -> tuple[Unit, ...]:
    """Return a node's participants, loaded anew where anything changed."""
    folder = Path(home.population)
    merchants, devices = _parts(home, stamp)
    kept = _kept(folder, home.node, home.nodes)
    stores = [_store(folder, holder, stamp) for holder in (*merchants, *([DEVICES] if devices else []))]
    decisions = [
        Consents(store.access).stamp(devices if store.access.holder == DEVICES else None) for store in stores
    ]
    source = (stamp, *decisions, *(last_change(store.access) for store in stores))
    grown = tuple(growth(store.access) for store in stores)
    if kept.source != source or (kept.grown != grown and time.monotonic() >= kept.due):
        started = time.monotonic()
        units = [_unit(folder, merchant, stamp) for merchant in merchants]
        if devices:
            units += _device_group(folder, devices, stamp)
        kept.source, kept.grown, kept.units = source, grown, tuple(units)
        kept.due = time.monotonic() + PATIENCE * (time.monotonic() - started)
    return kept.units


def _parts(home: Home, stamp: Stamp) -> tuple[list[str], list[str]]:
    """Return the merchants and the devices that a node carries."""
    if home.merchant:
        return [home.merchant], []
    listed = _listed(Path(home.population), stamp)
    return listed["merchants"][home.node :: home.nodes], listed["devices"][home.node :: home.nodes]


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
    catalogue = _catalogue(folder / CATALOGUE, stamp)
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
    catalogue = _catalogue(folder / CATALOGUE, stamp)
    shoppers = load_shoppers(_store(folder, DEVICES, stamp), catalogue.index, granted)
    items = np.arange(len(catalogue))
    return [Unit(part=DEVICES, holder=DEVICES, participants=len(granted), shoppers=shoppers, items=items)]
