"""A small federation on the disk that is copied for every kill: four merchants' kits and their filled stores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from client.consent import Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from deploy.federation_file import read_federation
from deploy.kit import CoordinatorKit, MerchantKit, open_kit
from deploy.kit_files import Kits
from deploy.provisioning import provision
from deploy.run_words import run_words
from evaluation.bench.federation_world import Shop, described
from privacy.keyring import Keyring

MERCHANTS: Final = ("east", "north", "south", "west")
"""Four: a sum of three of them is still made, for the threshold is more than two thirds."""
CANARY: Final = "canary-5e1f0c"
"""Begins the ids of all shoppers and events: it must be found nowhere but inside ciphertext."""
GRADIENT_ROUNDS: Final = 2
DEADLINE: Final = 3.0
"""Seconds that a round's contributions are awaited."""
ITEMS, SHOPPERS, STEPS = 6, 8, 5
START, DAY = 1_700_000_000, 86_400


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one federation lies.

    Attributes:
        ledger: database URL of the coordinator's ledger; empty: the SQLite file of its kit.
    """

    root: Path
    ledger: str = ""

    @property
    def kits(self) -> Kits:
        """Everybody's kits."""
        return Kits(root=self.root / "kits")

    @property
    def mail(self) -> Path:
        """Where messages lie on their way."""
        return self.root / "mail"

    @property
    def coordinator(self) -> CoordinatorKit:
        """The coordinator's kit."""
        kit = open_kit(self.kits.coordinator)
        assert isinstance(kit, CoordinatorKit)
        return kit

    def merchant(self, name: str) -> MerchantKit:
        """A merchant's kit."""
        kit = open_kit(self.kits.merchant(name))
        assert isinstance(kit, MerchantKit)
        return kit

    def words(self) -> Mapping[str, Any]:
        """The configuration of a run."""
        words = run_words(self.coordinator)
        if not self.ledger:
            return words
        return {**words, "ledger": self.ledger, "ledger-keys": str(self.coordinator.data / "keys")}

    def copied(self, root: Path, ledger: str = "") -> Place:
        """Copy the federation to a place of its own."""
        shutil.copytree(self.root, root)
        return Place(root=root, ledger=ledger)


def make(root: Path, *, coordinator: str = "127.0.0.1:9092", deadline: float = DEADLINE) -> None:
    """Provision the federation, and store every merchant's events; what they were read from is not kept.

    Args:
        coordinator: HOST:PORT of its door, where it has one.
        deadline: seconds that a round's contributions are awaited.
    """
    source = root / "source"
    source.mkdir(parents=True)
    file = described(
        source,
        [_shop(name) for name in MERCHANTS],
        coordinator=coordinator,
        words={"epsilon": 8.0, "delta": 1e-4, "rounds": GRADIENT_ROUNDS, "minimum_cohort": 2},
        settings={"dim": 4, "seed": 7, "timeout": deadline},
    )
    place = Place(root=root)
    provision(read_federation(file), place.kits.root, datetime.now(UTC))
    shutil.rmtree(source)
    place.coordinator.lay_out_data()
    for name in MERCHANTS:
        _fill(place.merchant(name))


def event_ids(merchant: str) -> set[str]:
    """The ids of the events that a merchant's store holds."""
    return {f"{CANARY}-{merchant}-{shopper}-{step}" for shopper in range(SHOPPERS) for step in range(STEPS)}


def _shop(name: str) -> Shop:
    items = pl.DataFrame(
        [
            {
                "item_id": _item(name, item),
                "title": f"thing {item % 3}",
                "category": "things",
                "brand": f"brand {item % 2}",
                "price": 1.0 + item,
                "description": "",
            }
            for item in range(ITEMS)
        ]
    )
    events = pl.DataFrame({"user_id": [f"{CANARY}-{shopper}" for shopper in range(SHOPPERS)]})
    return Shop(id=name, items=items, events=events)


def _item(merchant: str, number: int) -> str:
    return f"{merchant}-{number}"


def _fill(kit: MerchantKit) -> None:
    kit.lay_out_data()
    keyring = Keyring.open(kit.data / "keys")
    pseudonym = keyring.holder(kit.merchant).pseudonymiser.of
    names = [pseudonym(f"{CANARY}-{kit.merchant}-{shopper}") for shopper in range(SHOPPERS)]
    events = [
        Event(
            shopper=name,
            item_id=_item(kit.merchant, (shopper + step * step) % ITEMS),
            kind="purchase",
            timestamp=START + DAY * step + shopper,
            event_id=f"{CANARY}-{kit.merchant}-{shopper}-{step}",
        )
        for shopper, name in enumerate(names)
        for step in range(STEPS)
    ]
    with EventStore.open(kit.data / "store" / "events.db", keyring, kit.merchant) as store:
        store.append(events)
        Consents(store.access).record(names, list(Purpose), granted=True, origin="fault bench")
