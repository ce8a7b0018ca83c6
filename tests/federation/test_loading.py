"""A merchant's events come into its own store once, and are used where shoppers allow it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kits_of_two import make_kits, merchant_kit
from typer.testing import CliRunner

from client import cohort
from client.consent import Purpose
from client.home import Home, home_of
from client.store import EventStore
from client.store_consent import Consents
from deploy.kit import MerchantKit
from fedrank.cli import app
from fedrank.exits import DATA, exit_code
from privacy.keyring import Keyring
from simulation.data.errors import DataError

ROWS = [
    "ann,north-0,purchase,100",
    "ann,north-0,purchase,100",
    "ann,north-1,purchase,200",
    "bob,north-1,purchase,300",
    "bob,south-0,purchase,300",
    "cid,nowhere,purchase,400",
]


@pytest.fixture
def kit(tmp_path: Path) -> MerchantKit:
    """The kit of merchant north, without any data."""
    return merchant_kit(make_kits(tmp_path), "north")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of events of two merchants and of an item that nobody sells."""
    return written(tmp_path / "events.csv", ROWS)


def written(path: Path, rows: list[str]) -> Path:
    """Write events."""
    path.write_text("\n".join(["user_id,item_id,kind,timestamp", *rows]) + "\n")
    return path


def load(kit: MerchantKit, file: Path, *more: str) -> dict[str, object]:
    """Load a file by the command and return what it says."""
    words = ["merchant", "load", str(kit.folder), "--data", str(file), "--json", *more]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    told: dict[str, object] = json.loads(done.stdout)
    return told


def home(kit: MerchantKit) -> Home:
    """The home that the node of this kit has."""
    return home_of({"kit": str(kit.folder), "data": str(kit.data), "merchant-id": kit.merchant}, {})


def trained_on(kit: MerchantKit) -> int:
    """How many shoppers the next round would learn from."""
    (unit,) = cohort.cohort_at(home(kit)).units
    return len(unit.shoppers)


def consents(kit: MerchantKit, shopper: str, *, granted: bool) -> None:
    """Record a shopper's own decision."""
    keyring = Keyring.open(kit.data / "keys", create=False)
    with EventStore.open(kit.data / "store" / "events.db", keyring, kit.merchant) as store:
        name = keyring.holder(kit.merchant).pseudonymiser.of(shopper)
        Consents(store.access).record([name], tuple(Purpose), granted=granted, origin="settings page")


def test_only_events_at_the_merchants_own_items_are_stored(kit: MerchantKit, file: Path) -> None:
    """Another merchant's items and unknown ones are counted and left out; equal rows are two events."""
    assert load(kit, file) == {
        "merchant": "north",
        "shoppers": 2,
        "stored": 4,
        "known": 0,
        "elsewhere": 2,
        "rejected": 0,
        "consents": 0,
    }


def test_loading_again_stores_nothing_twice(kit: MerchantKit, file: Path, tmp_path: Path) -> None:
    """The same file adds nothing; a later export adds what is new in it."""
    load(kit, file)
    assert load(kit, file)["stored"] == 0
    later = written(tmp_path / "later.csv", [*ROWS, "ann,north-1,purchase,500", "ann,north-0,purchase,100"])
    assert load(kit, later)["stored"] == 2


def test_no_id_of_a_shopper_lies_in_the_kit(kit: MerchantKit, tmp_path: Path) -> None:
    """Store, keys and ledger hold pseudonyms and ciphertext."""
    load(
        kit, written(tmp_path / "events.csv", ["canary-shopper-77,north-0,purchase,1"]), "--consent", "terms"
    )
    found = [
        path for path in kit.folder.rglob("*") if path.is_file() and b"canary-shopper" in path.read_bytes()
    ]
    assert found == []


def test_without_consent_events_are_kept_and_used_for_nothing(kit: MerchantKit, file: Path) -> None:
    """A round learns from nobody until shoppers allow it."""
    load(kit, file)
    assert trained_on(kit) == 0
    consents(kit, "ann", granted=True)
    assert trained_on(kit) == 1


def test_a_files_consent_does_not_override_a_withdrawal(kit: MerchantKit, file: Path) -> None:
    """It counts for those alone who have decided nothing."""
    load(kit, file)
    consents(kit, "ann", granted=False)
    assert load(kit, file, "--consent", "terms of 2026")["consents"] == 1
    assert trained_on(kit) == 1


def test_new_events_count_from_the_next_reading_on(
    kit: MerchantKit, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that has its shoppers in memory reads the store anew when events have come."""
    monkeypatch.setattr(cohort, "PATIENCE", 0.0)
    load(kit, file, "--consent", "terms")
    (before,) = cohort.cohort_at(home(kit)).units
    assert cohort.cohort_at(home(kit)).units[0] is before
    load(kit, written(tmp_path / "more.csv", ["ann,north-1,purchase,900"]))
    (after,) = cohort.cohort_at(home(kit)).units
    assert len(after.shoppers.histories.items) == len(before.shoppers.histories.items) + 1


def test_a_coordinators_kit_is_no_merchants(kit: MerchantKit, file: Path) -> None:
    """The message says which kit is wanted."""
    words = ["merchant", "load", str(kit.folder.parents[1] / "coordinator"), "--data", str(file)]
    done = CliRunner().invoke(app, words)
    assert "no merchant's kit" in str(done.exception)


def test_events_at_items_of_others_are_left_out_with_a_warning(kit: MerchantKit, file: Path) -> None:
    """People and scripts read it on standard error; a file of this merchant alone gives none."""
    words = ["merchant", "load", str(kit.folder), "--data", str(file)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "warning: 2 of 6 events are at items that are not north's" in done.stderr
    own = written(file, ["ann,north-0,purchase,100"])
    done = CliRunner().invoke(app, [*words[:-1], str(own)], catch_exceptions=False)
    assert "1 were there" in done.stdout and "warning" not in done.stderr


def test_a_file_without_an_event_at_the_merchants_items_is_refused(kit: MerchantKit, tmp_path: Path) -> None:
    """Another merchant's file, or other ids: nothing is stored, and no consent recorded."""
    other = written(tmp_path / "south.csv", ["bob,south-0,purchase,300", "cid,nowhere,purchase,400"])
    words = ["merchant", "load", str(kit.folder), "--data", str(other), "--consent", "terms"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, DataError) and exit_code(done.exception) == DATA
    assert "none of the 2 events of south.csv is at an item of north" in str(done.exception)
    assert not list(kit.data.iterdir())
