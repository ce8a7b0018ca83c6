"""A ledger that goes back, vanishes, forks or is changed is refused; one that a crash left ahead is not."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_world import backup_of, charge, die_at, opened, restore, subjects
from sqlalchemy import update

from privacy.database import open_engine, writing
from privacy.errors import BudgetExceeded, DatabaseMissing, ForeignLedger, LedgerDamaged, LedgerRolledBack
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.schema import accounts, charges
from privacy.secret_files import SecretFile, Secrets

_processes = multiprocessing.get_context("forkserver")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The folder of the ledger's keyring."""
    return tmp_path / "keys"


@pytest.fixture
def ledger(database_url: str, keys: Path) -> Iterator[Ledger]:
    """A new ledger on each kind of database, with three releases of the devices."""
    ledger = opened(database_url, keys)
    for number in range(1, 4):
        _spend(ledger, number)
    yield ledger
    ledger.close()


def _spend(ledger: Ledger, number: int, cap_mu2: float = 4.0) -> None:
    ledger.reserve(charge(f"r{number}", round=number), subjects(5), cap_mu2)


def test_an_old_backup_is_refused_and_the_newest_one_is_accepted(
    ledger: Ledger, database_url: str, keys: Path
) -> None:
    """The line says how many releases are there and how many there should be, and what to do."""
    old = backup_of(database_url)
    _spend(ledger, 4)
    newest = backup_of(database_url)
    restore(database_url, old)
    with pytest.raises(LedgerRolledBack, match=r"holds 3 releases.*remembers 4.*newest backup"):
        opened(database_url, keys)
    restore(database_url, newest)
    back = opened(database_url, keys)
    assert back.spent("devices") == 1.0
    _spend(back, 5)
    back.close()


def test_a_copied_file_of_an_old_ledger_is_refused(tmp_path: Path, keys: Path) -> None:
    """The plain way to win budget back, copying ledger.db aside and back again, ends at the door."""
    place = tmp_path / "ledger.db"
    ledger = opened(str(place), keys)
    _spend(ledger, 1)
    ledger.close()
    shutil.copy(place, tmp_path / "copy.db")
    ledger = opened(str(place), keys)
    _spend(ledger, 2)
    ledger.close()
    shutil.copy(place, tmp_path / "newest.db")
    shutil.copy(tmp_path / "copy.db", place)
    with pytest.raises(LedgerRolledBack, match="holds 1 releases"):
        opened(str(place), keys)
    shutil.copy(tmp_path / "newest.db", place)
    opened(str(place), keys).close()


def test_an_old_backup_that_was_charged_again_is_refused(
    ledger: Ledger, database_url: str, keys: Path
) -> None:
    """A copy that is as long as the ledger, or longer, but went another way is known by its head."""
    old = backup_of(database_url)
    shutil.copytree(keys, keys.parent / "old-keys")
    _spend(ledger, 4)
    restore(database_url, old)
    fork = opened(database_url, keys.parent / "old-keys")
    for number in (6, 7):
        _spend(fork, number)
        with pytest.raises(LedgerRolledBack, match="another release at position 4"):
            opened(database_url, keys)
    fork.close()


def test_a_ledger_that_goes_back_while_it_is_open_charges_nobody(ledger: Ledger, database_url: str) -> None:
    """A process that was running during the restore notices before it charges."""
    old = backup_of(database_url)
    _spend(ledger, 4)
    restore(database_url, old)
    with pytest.raises(LedgerRolledBack):
        _spend(ledger, 5)
    assert ledger.spent("devices") == 0.75


def test_a_deleted_ledger_is_not_replaced_by_an_empty_one(tmp_path: Path, keys: Path) -> None:
    """With the file the spent budget would be gone, so no new file appears, and the line names the ways on."""
    place = tmp_path / "ledger.db"
    ledger = opened(str(place), keys)
    _spend(ledger, 1)
    ledger.close()
    place.unlink()
    with pytest.raises(LedgerRolledBack, match=r"a ledger of 1 releases.*newest backup.*new keys"):
        opened(str(place), keys)
    assert not place.exists()


def test_an_emptied_or_foreign_database_is_refused(ledger: Ledger, database_url: str, keys: Path) -> None:
    """Neither a ledger without rows nor another federation's takes the place of the one that is remembered."""
    restore(database_url, {name: [] for name in backup_of(database_url)})
    with pytest.raises(LedgerRolledBack, match="holds no ledger"):
        opened(database_url, keys)
    other = opened(database_url, keys.parent / "other-keys")
    _spend(other, 1)
    other.close()
    with pytest.raises(ForeignLedger, match="goes with ledger"):
        opened(database_url, keys)


def test_a_ledger_with_a_new_keyring_is_refused(ledger: Ledger, database_url: str, keys: Path) -> None:
    """New keys mean new pseudonyms: everybody would have a second budget on the same ledger."""
    with pytest.raises(ForeignLedger, match="bring the keys"):
        opened(database_url, keys.parent / "new-keys")


def test_a_ledger_that_nothing_was_charged_to_may_be_lost(tmp_path: Path, keys: Path) -> None:
    """Nothing was spent, so nothing can be won: an empty ledger is replaced without a word."""
    place = tmp_path / "ledger.db"
    opened(str(place), keys).close()
    place.unlink()
    with pytest.raises(DatabaseMissing):
        opened(str(place), keys, create=False)
    assert opened(str(place), keys).verify() == 0


def _reserve_and_die(url: str, keys: Path) -> None:
    _spend(opened(url, keys, failpoint=die_at("charge: after commit")), 4)


def test_a_crash_between_ledger_and_keyring_is_caught_up(
    ledger: Ledger, database_url: str, keys: Path
) -> None:
    """kill -9 after the commit leaves the ledger ahead; opening it accepts that, and from then on remembers it."""
    old = backup_of(database_url)
    process = _processes.Process(target=_reserve_and_die, args=(database_url, keys))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    opened(database_url, keys).close()
    assert ledger.spent("devices") == 1.0
    restore(database_url, old)
    with pytest.raises(LedgerRolledBack, match="remembers 4"):
        opened(database_url, keys)


def test_a_repetition_is_answered_only_when_the_keyring_knows_the_charge(
    ledger: Ledger, database_url: str, keys: Path
) -> None:
    """Another process died between both databases; who is told that the charge is there may release for it."""

    def die(name: str) -> None:
        if name == "charge: after commit":
            raise KeyboardInterrupt

    old, dying = backup_of(database_url), opened(database_url, keys, failpoint=die)
    with pytest.raises(KeyboardInterrupt):
        _spend(dying, 4)
    dying.close()
    assert not ledger.reserve(charge("r4", round=4), subjects(5), 4.0)
    restore(database_url, old)
    with pytest.raises(LedgerRolledBack, match="remembers 4"):
        opened(database_url, keys)


_TAMPERED: dict[str, Any] = {
    "mu2": 0.125,
    "noise_multiplier": 4.0,
    "clipping_norm": 3.0,
    "subjects": 4,
    "stage": "counts",
    "round": 7,
    "cohort_digest": "0" * 64,
    "reserved_at": "2020-01-01T00:00:00",
    "release_id": "r9",
    "holder": "shop-1",
    "head": bytes(32),
}


@pytest.mark.parametrize("column", list(_TAMPERED))
def test_one_changed_charge_is_found_and_its_position_named(
    ledger: Ledger, database_url: str, column: str
) -> None:
    """Whatever is changed in the second of three charges, verification stops there."""
    assert ledger.verify() == 3
    engine = open_engine(database_url)
    with writing(engine) as connection:
        connection.execute(update(charges).where(charges.c.position == 2).values({column: _TAMPERED[column]}))
    engine.dispose()
    with pytest.raises(LedgerDamaged, match="position 2 was changed"):
        ledger.verify()


def test_one_removed_charge_is_found_and_its_position_named(
    ledger: Ledger, database_url: str, keys: Path
) -> None:
    """A hole in the chain, and a missing end, which is a ledger that went back."""
    for position, refusal, words in (
        (2, LedgerDamaged, "position 2 is missing"),
        (3, LedgerRolledBack, "holds"),
    ):
        engine = open_engine(database_url)
        with writing(engine) as connection:
            connection.execute(charges.delete().where(charges.c.position == position))
        engine.dispose()
        with pytest.raises(refusal, match=words):
            ledger.verify()


def test_what_came_after_the_remembered_state_is_verified_when_the_ledger_is_opened(
    database_url: str, keys: Path
) -> None:
    """A forged charge behind the last one that the keyring knows is not accepted as a crash."""
    ledger = opened(database_url, keys)
    _spend(ledger, 1)
    shutil.copytree(keys, keys.parent / "older-keys")
    _spend(ledger, 2)
    ledger.close()
    engine = open_engine(database_url)
    with writing(engine) as connection:
        connection.execute(update(charges).where(charges.c.position == 2).values(mu2=0.0))
    engine.dispose()
    with pytest.raises(LedgerDamaged, match="position 2"):
        opened(database_url, keys.parent / "older-keys")


def test_a_ledger_under_another_ledger_key_is_refused(ledger: Ledger, database_url: str, keys: Path) -> None:
    """The remembered head is there, but nobody can continue its chain without the key that made it."""
    ledger.close()
    keyring, file = Keyring.open(keys), SecretFile.of_ledger(keys)
    file.replace(keyring.kms, Secrets.fresh(()))
    with pytest.raises(LedgerDamaged, match="position 1 was changed, or chained under another key"):
        opened(database_url, keys)


def test_an_account_that_was_lowered_is_found(ledger: Ledger, database_url: str, keys: Path) -> None:
    """Accounts are in no chain, but together they must be what the charges cost; the message names no shopper."""
    engine = open_engine(database_url)
    with writing(engine) as connection:
        this = accounts.c.subject == subjects(1)[0]
        connection.execute(update(accounts).where(this).values(spent_mu2=0.5))
    engine.dispose()
    with pytest.raises(
        LedgerDamaged, match=r"accounts of holder 'devices' add up to mu\^2 = 3.5.* 3.75"
    ) as found:
        ledger.verify()
    assert subjects(1)[0] not in str(found.value)
    with pytest.raises(LedgerDamaged, match="accounts of holder 'devices'"):
        opened(database_url, keys)


def test_a_refused_charge_leaves_chain_and_memory_as_they_were(
    ledger: Ledger, database_url: str, keys: Path
) -> None:
    """What was rolled back has no place in the chain, and the next charge takes that place."""
    with pytest.raises(BudgetExceeded):
        _spend(ledger, 4, cap_mu2=0.75)
    assert ledger.verify() == 3
    _spend(ledger, 5)
    assert [record.position for record in ledger.charges()] == [1, 2, 3, 4]
    opened(database_url, keys).close()
