"""A copy of everything held, and erasure with a receipt that proves itself."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from client.consent import Purpose
from client.events import Event
from client.receipts import ErasureFailed, InvalidReceipt, check_receipt, erase_with_receipt
from client.rights import export_of
from client.store import EventStore
from client.store_consent import Consents
from privacy.database import open_engine, reading, writing
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_records import Charge
from privacy.schema import consents, shoppers

ID, DELTA = "anna@example.com", 1e-6
CHARGE = Charge(
    release_id="r1",
    holder="shop-1",
    stage="counts",
    round=1,
    noise_multiplier=2.0,
    clipping_norm=1.0,
    mu2=0.25,
)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A new keyring."""
    return Keyring.open(tmp_path / "keys")


@pytest.fixture
def store(database_url: str, keyring: Keyring) -> Iterator[EventStore]:
    """A merchant's store with events and a decision of one shopper, and an event of another."""
    with EventStore.open(database_url, keyring, "shop-1") as store:
        name = store.access.keys.pseudonymiser.of
        for number in (1, 2):
            fields: dict[str, Any] = {"item_id": f"item-{number}", "kind": "view", "timestamp": number}
            store.append(
                [Event(shopper=name(ID), event_id=f"e{number}", **fields), Event(shopper=name("b"), **fields)]
            )
        decisions = Consents(store.access, clock=lambda: 9)
        decisions.record([name(ID)], [Purpose.TRAINING], granted=True, origin="settings")
        yield store


def test_a_copy_holds_everything_and_no_key(store: EventStore, keyring: Keyring, tmp_path: Path) -> None:
    """Events, decisions, what was spent and on which releases; of this shopper alone, as JSON."""
    shopper = store.access.keys.pseudonymiser.of(ID)
    ledger = Ledger.open(tmp_path / "ledger.db", keyring)
    ledger.reserve(CHARGE, [shopper], 1.0)
    copy = json.loads(json.dumps(export_of(store, ID, ledger, DELTA)))
    ledger.close()
    assert [event["item_id"] for event in copy["events"]] == ["item-1", "item-2"]
    assert copy["consents"] == [{"purpose": "training", "granted": True, "time": 9, "origin": "settings"}]
    assert (copy["budget"]["spent_mu2"], copy["budget"]["delta"]) == (0.25, DELTA)
    assert copy["budget"]["spent_epsilon"] > 0
    assert [release["release_id"] for release in copy["budget"]["releases"]] == ["r1"]
    assert store.access.keys.data_keys.newest([shopper])[shopper].key.hex() not in json.dumps(copy)


def test_a_record_of_consent_that_does_not_open_is_counted_and_the_rest_is_copied(store: EventStore) -> None:
    """Damage in one place takes no right away from what can still be read."""
    with writing(store.access.engine) as connection:
        connection.execute(consents.update().values(sealed=b"damaged"))
    copy = export_of(store, ID, None, DELTA)
    assert (len(copy["events"]), copy["consents"], copy["consents_that_do_not_open"]) == (2, [], 1)


def test_of_an_unknown_shopper_the_copy_is_empty(store: EventStore, keyring: Keyring, tmp_path: Path) -> None:
    """Nothing is held, nothing is spent, and asking leaves nothing behind."""
    ledger = Ledger.open(tmp_path / "ledger.db", keyring)
    copy = export_of(store, "nobody", ledger, DELTA)
    ledger.close()
    assert (copy["events"], copy["consents"], copy["budget"]) == ([], [], {"spent_mu2": 0.0, "releases": []})
    assert store.access.keys.data_keys.keys_of([copy["pseudonym"]]) == {}


def test_a_receipt_counts_what_was_destroyed_and_names_nobody(store: EventStore) -> None:
    """Rows by table and keys; nothing is left or readable; the id is nowhere in it; the signature fits."""
    moment = datetime(2030, 1, 2, tzinfo=UTC)
    receipt = erase_with_receipt(store, ID, clock=lambda: moment)
    assert receipt["rows_destroyed"] == {"events": 2, "event_ids": 2, "consents": 1, "shoppers": 1}
    assert (receipt["keys_destroyed"], receipt["found_nothing"]) == (1, False)
    assert receipt["verified"] == {"rows_left": 0, "rows_readable": 0, "log_emptied": True}
    assert receipt["time"] == "2030-01-02T00:00:00+00:00"
    assert ID not in json.dumps(receipt)
    assert receipt["vacuumed_tables"] == (
        [] if receipt["database"] == "sqlite" else list(receipt["rows_destroyed"])
    )
    check_receipt(json.loads(json.dumps(receipt)), store.access.keys.signer.public_key)
    assert len(store.read_columns()) == 2, "the other shopper's events"


def test_erasing_again_says_that_nothing_was_there(store: EventStore) -> None:
    """A receipt all the same, also for somebody who never was a shopper."""
    erase_with_receipt(store, ID)
    for name in (ID, "nobody"):
        receipt = erase_with_receipt(store, name)
        assert receipt["found_nothing"] is True
        assert "earlier erasure" in receipt["note"]
        assert set(receipt["rows_destroyed"].values()) == {0}
        check_receipt(receipt)


@pytest.mark.parametrize("read", ["test.db", "keys/keys.db"])
def test_a_receipt_says_that_a_log_could_not_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """A reader of an older state: all is destroyed and counted; erasing again empties the log."""
    monkeypatch.setattr("privacy.sqlite.BUSY_SECONDS", 0.1)
    with EventStore.open(tmp_path / "test.db", Keyring.open(tmp_path / "keys"), "shop-1") as store:
        shopper = store.access.keys.pseudonymiser.of(ID)
        store.append([Event(shopper=shopper, item_id="x", kind="view", timestamp=1)])
        engine = open_engine(tmp_path / read, create=False)
        with reading(engine) as connection:
            connection.execute(select(shoppers)).all()
            first = erase_with_receipt(store, ID)
        engine.dispose()
        again = erase_with_receipt(store, ID)
    assert (first["verified"]["log_emptied"], first["keys_destroyed"]) == (False, 1)
    assert first["rows_destroyed"]["events"] == 1
    assert again["verified"]["log_emptied"] is True


def test_nobody_waits_for_a_reader_of_the_keys_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an erasure waits for a reader of the keyring's log, the store takes events of others."""
    monkeypatch.setattr("privacy.sqlite.BUSY_SECONDS", 1.0)
    with EventStore.open(tmp_path / "test.db", Keyring.open(tmp_path / "keys"), "shop-1") as store:
        other = store.access.keys.pseudonymiser.of("other")
        store.append([Event(shopper=other, item_id="x", kind="view", timestamp=1)])
        engine = open_engine(tmp_path / "keys" / "keys.db", create=False)
        with reading(engine) as connection, ThreadPoolExecutor(1) as pool:
            connection.execute(select(shoppers)).all()
            erasing = pool.submit(erase_with_receipt, store, ID)
            time.sleep(0.2)
            store.append([Event(shopper=other, item_id="y", kind="view", timestamp=2)])
            assert not erasing.done(), "it still waits for the reader"
        engine.dispose()
        assert erasing.result()["verified"]["rows_left"] == 0


def test_what_was_spent_stays_spent(store: EventStore, keyring: Keyring, tmp_path: Path) -> None:
    """The account lives on under its pseudonym: who comes back does not begin anew."""
    shopper = store.access.keys.pseudonymiser.of(ID)
    ledger = Ledger.open(tmp_path / "ledger.db", keyring)
    ledger.reserve(CHARGE, [shopper], 1.0)
    erase_with_receipt(store, ID)
    assert ledger.spent("shop-1", [shopper]) == 0.25
    ledger.close()


@pytest.mark.parametrize(
    "field", ["holder", "pseudonym", "time", "keys_destroyed", "verified", "public_key", "signature"]
)
def test_a_receipt_that_was_changed_anywhere_is_refused(store: EventStore, field: str) -> None:
    """Every field is under the signature, and the signature itself."""
    receipt = erase_with_receipt(store, ID)
    for value in ("00" * 32, 7, None):
        with pytest.raises(InvalidReceipt):
            check_receipt({**receipt, field: value})
    with pytest.raises(InvalidReceipt):
        check_receipt({name: value for name, value in receipt.items() if name != field})


def test_a_receipt_of_another_holder_is_not_this_ones(store: EventStore, keyring: Keyring) -> None:
    """Whole in itself, but signed by a key that is not the holder's."""
    receipt = erase_with_receipt(store, ID)
    with pytest.raises(InvalidReceipt, match="another key"):
        check_receipt(receipt, keyring.holder("shop-2").signer.public_key)


def test_an_event_that_comes_right_after_an_erasure_is_noticed(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No receipt says that nothing is left while something is there."""
    back = Event(shopper=store.access.keys.pseudonymiser.of(ID), item_id="x", kind="view", timestamp=3)

    def come_back(_access: object) -> tuple[str, ...]:
        store.append([back])
        return ()

    monkeypatch.setattr("client.receipts.vacuum_erased", come_back)
    with pytest.raises(ErasureFailed, match="erase again"):
        erase_with_receipt(store, ID)
