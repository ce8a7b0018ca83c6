"""A population on disk: encrypted stores, pseudonyms that nobody shares, keys that belong to a ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from federation_world import MERCHANTS, SHOPPERS, catalogue, events, items, population

from client.store import EventStore
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge
from proto.federation import DEVICES
from server.coordination.config import Participants
from simulation.population import LostKeys, ReservedName, build_population, place_keys


def stored(folder: Path, holder: str) -> int:
    """Number of events that a holder has."""
    keyring = Keyring.open(folder / "keys", create=False)
    with EventStore.open(folder / "store" / "events.db", keyring, holder) as store:
        return len(store.read_columns())


def test_devices_hold_all_events_of_their_shoppers(tmp_path: Path) -> None:
    """One device per shopper, one with a single event among them; no merchant takes part."""
    people = population(tmp_path)
    assert len(people.devices) == people.participants == SHOPPERS + 1
    assert people.merchants == ()
    assert list(people.devices) == people.shoppers_of(DEVICES)
    assert stored(tmp_path, DEVICES) == events().height


def test_merchants_hold_the_events_at_their_own_items(tmp_path: Path) -> None:
    """Together they hold every event once, and no two know a shopper by the same name."""
    people = population(tmp_path, Participants.MERCHANTS)
    assert people.devices == ()
    assert people.merchants == tuple(f"m{number}" for number in range(MERCHANTS))
    for merchant in people.merchants:
        assert stored(tmp_path, merchant) == events().filter(pl.col("merchant_id") == merchant).height
    names = [name for merchant in people.merchants for name in people.shoppers_of(merchant)]
    assert len(names) == len(set(names)) == int(people.merchants_per_shopper.sum())


def test_with_both_kinds_every_shopper_takes_part_in_exactly_one_way(tmp_path: Path) -> None:
    """About half by device; the others' events lie at merchants."""
    people = population(tmp_path, Participants.BOTH)
    assert len(people.devices) + people.merchants_per_shopper.size == SHOPPERS + 1
    assert 35 < len(people.devices) < 86  # five deviations around one half of 121
    keyring = Keyring.open(tmp_path / "keys", create=False)
    with EventStore.open(tmp_path / "store" / "events.db", keyring, DEVICES) as store:
        by_device = len(store.read_columns(list(people.devices)))
    assert by_device + sum(stored(tmp_path, merchant) for merchant in people.merchants) == events().height
    listed = json.loads((tmp_path / "participants.json").read_text())
    assert listed == {"devices": list(people.devices), "merchants": list(people.merchants)}
    assert population(tmp_path, Participants.BOTH).devices == people.devices


def test_the_catalogue_is_public_and_in_model_order(tmp_path: Path) -> None:
    """One row per item, in the order that the model numbers them."""
    people = population(tmp_path)
    assert catalogue(people).item_ids == tuple(items()["item_id"])
    assert catalogue(people).merchant_ids == tuple(items()["merchant_id"])


def test_no_id_of_a_shopper_is_on_disk(tmp_path: Path) -> None:
    """Stores, keys and lists hold pseudonyms and ciphertext only; what is public is found, so the scan works."""
    population(tmp_path, Participants.BOTH)
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if b"shopper-0" in text]
    assert [path for path, text in texts.items() if b"garden number" in text]


@pytest.mark.parametrize("name", ["devices", "federation"])
def test_a_merchant_cannot_bear_a_reserved_name(tmp_path: Path, name: str) -> None:
    """Its account and its keys would be those of somebody else."""
    frame = events().with_columns(
        merchant_id=pl.when(pl.col("merchant_id") == "m1").then(pl.lit(name)).otherwise("merchant_id")
    )
    with pytest.raises(ReservedName, match=name):
        build_population(tmp_path, items(), frame, Participants.MERCHANTS)


def charge(ledger: Ledger, holder: str, subjects: list[str], mu2: float) -> None:
    """Spend something."""
    one = Charge(
        release_id=f"{holder}{mu2}",
        holder=holder,
        stage="gram",
        round=1,
        noise_multiplier=1.0,
        clipping_norm=1.0,
        mu2=mu2,
    )
    ledger.reserve(one, subjects, 100.0)


def test_the_spending_of_a_population_is_its_highest_account(tmp_path: Path) -> None:
    """Strangers on the ledger do not count; devices and merchants add up, since one shopper may be both."""
    people = population(tmp_path, Participants.BOTH)
    ledger = ledger_at(tmp_path / "ledger.db")
    assert people.spent_mu2(ledger) == 0.0
    charge(ledger, DEVICES, ["f" * 32], 50.0)
    charge(ledger, "federation", ["e" * 32], 60.0)
    assert people.spent_mu2(ledger) == 0.0
    charge(ledger, DEVICES, list(people.devices[:3]), 1.0)
    charge(ledger, "m0", people.shoppers_of("m0")[:2], 0.5)
    charge(ledger, "m1", people.shoppers_of("m1")[:1], 0.25)
    assert people.spent_mu2(ledger) == 1.5
    charge(ledger, "m9", ["d" * 32], 2.0)  # a merchant that has left: whose account it is nobody can tell
    assert people.spent_mu2(ledger) == 3.0


def test_runs_on_one_ledger_share_its_keys(tmp_path: Path) -> None:
    """Whatever the run folder, the same shopper has the same pseudonym and so the same account."""
    ledger = tmp_path / "accounts" / "ledger.db"
    ledger.parent.mkdir()
    devices = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        place_keys(tmp_path / name, str(ledger))
        devices.append(population(tmp_path / name).devices)
        place_keys(tmp_path / name, f"sqlite:///{ledger}")
    assert devices[0] == devices[1]
    other = tmp_path / "other"
    other.mkdir()
    place_keys(other, str(other / "ledger.db"))
    assert population(other).devices != devices[0]
    with pytest.raises(LostKeys, match="another --out"):
        place_keys(other, str(ledger))


def test_a_ledger_without_its_keys_is_refused(tmp_path: Path) -> None:
    """New keys would give everybody a fresh account and so a second budget."""
    ledger_at(tmp_path / "ledger.db").close()
    shutil.rmtree(tmp_path / "keys")
    with pytest.raises(LostKeys, match="put the keys back"):
        place_keys(tmp_path, str(tmp_path / "ledger.db"))


def test_with_a_database_server_the_keys_stay_in_the_run_folder(tmp_path: Path) -> None:
    """A URL is no path: no folder is made of its words."""
    place_keys(tmp_path, "postgresql://someone@example.org/ledger")
    assert list(tmp_path.iterdir()) == []
    assert not list(Path.cwd().glob("postgresql:*"))
