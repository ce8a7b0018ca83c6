"""The bench of faults, in a small sample on both databases; and that each of its checks can fail."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from evaluation.bench import faults_disk, postgres
from evaluation.bench.faults import damage_rows, kill_rows, verdict_rows
from evaluation.bench.faults_charge import PRICE_MU2, SUBJECTS, ChargeCohort
from evaluation.bench.faults_charge import compare as compare_ledger
from evaluation.bench.faults_damage import Batch, damage, flipped, flips, swaps
from evaluation.bench.faults_disk import DiskNeverFull, disk_full
from evaluation.bench.faults_kills import SCENARIOS, DriverFailed, Kills, kill_everywhere, points
from evaluation.bench.faults_scenarios import Damage, Place, batch, compare, ids
from evaluation.bench.faults_vault import SEALED, Spot, Vault, Verdict
from evaluation.bench.storage_world import HOLDER
from privacy.database import open_engine, writing
from privacy.failpoints import FAILPOINTS, no_failpoint
from privacy.ledger import Ledger
from privacy.schema import accounts

SOUND, UNHARMED = Verdict(), Damage()


@pytest.fixture
def vault(database_url: str, tmp_path: Path) -> Iterator[Vault]:
    """Two merchants with 24 shoppers each, three rows of events and a consent of every one."""
    with closing(Vault(database_url, tmp_path / "keys", shoppers=24, rows=3)) as vault:
        yield vault


def spot(vault: Vault, table: str) -> Spot:
    """Some ciphertext of a table."""
    return next(one for one in vault.sealed if one.table == table)


@pytest.mark.parametrize("batch_of", [flips, swaps])
def test_no_damage_is_accepted_all_of_it_is_named_and_the_rest_is_served(
    vault: Vault, batch_of: Batch
) -> None:
    """A sample of the bench; afterwards everything is as it was."""
    assert vault.judge(()) == SOUND
    found = list(damage(vault, random.Random(5), 100, batch_of))
    assert sum(one.changes for one in found) >= 100
    assert sum((one.verdict for one in found), Verdict()) == SOUND
    assert vault.judge(()) == SOUND


def test_damage_reaches_every_table_with_a_ciphertext_of_a_shopper(vault: Vault) -> None:
    """Flips and swaps do; a swap takes two places, and what they held lies in the other one."""
    assert {one.table for one in vault.sealed} == set(SEALED)
    for batch_of in (flips, swaps):
        _, changes = batch_of(vault, random.Random(6))
        assert {one.table for one in changes} == set(SEALED)
        assert all(token != vault.sealed[one] for one, token in changes.items())
    count, changes = swaps(vault, random.Random(7))
    assert len(changes) == 2 * count
    assert sorted(changes.values()) == sorted(vault.sealed[one] for one in changes)


def test_a_flip_changes_exactly_one_bit() -> None:
    """Anywhere in the token, header and tag included."""
    token, rng, places = bytes(range(40)), random.Random(8), set()
    for _ in range(5000):
        apart = int.from_bytes(token) ^ int.from_bytes(flipped(token, rng))
        assert apart.bit_count() == 1
        places.add(apart.bit_length())
    assert len(places) == 8 * len(token)


def test_damage_that_is_believed_is_counted(vault: Vault) -> None:
    """Planted: what is called damaged is sound, so that a reader serves it and does not name it."""
    assert vault.judge([spot(vault, "events")]) == Verdict(accepted=1, unnamed=1)
    assert vault.judge([spot(vault, "consents")]) == Verdict(accepted=1)
    assert vault.judge([spot(vault, "data_keys")]) == Verdict(accepted=4, unnamed=3)


def test_a_row_that_is_served_from_another_place_is_counted(vault: Vault) -> None:
    """Planted: sound rows that are taken for those of other numbers, as a swap that is believed would look."""
    here = spot(vault, "events")
    there = here._replace(number=99)
    vault.sealed[there] = vault.sealed.pop(here)
    assert vault.judge(()) == Verdict(accepted=1, withheld=1)


def test_sound_rows_that_are_not_served_are_counted(vault: Vault) -> None:
    """Planted: damage that nobody was told of looks like rows withheld."""
    here, consent = spot(vault, "events"), spot(vault, "consents")
    vault.write({here: flipped(vault.sealed[here], random.Random(9))})
    assert vault.judge(()) == Verdict(withheld=2), "one is not served, and one named without reason"
    vault.repair([here])
    vault.write({consent: flipped(vault.sealed[consent], random.Random(9))})
    assert vault.judge(()) == Verdict(withheld=1)


def test_every_operation_with_failpoints_has_a_scenario() -> None:
    """And every failpoint is killed at."""
    assert SCENARIOS.keys() == FAILPOINTS.keys()
    assert points() == [(operation, name) for operation, names in FAILPOINTS.items() for name in names]
    assert all(FAILPOINTS.values())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_kill_at_any_failpoint_loses_doubles_and_overspends_nothing(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """One kill at each point of each operation, on both databases, and the work resumes."""
    urls = [""] * len(points())
    with ExitStack() as stack:
        if kind == "postgresql":
            server = request.getfixturevalue("postgres_url")
            urls = [stack.enter_context(postgres.database(server)) for _ in urls]
        found = list(kill_everywhere(urls, 1))
    assert [(kills.operation, kills.failpoint) for kills in found] == points()
    assert [kills for kills in found if kills.killed != 1 or kills.damage != UNHARMED] == []


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("lost", {"killed": 1, "lost": 4}),
        ("doubled", {"killed": 1, "doubled": 2 * len(batch(0, "acknowledged"))}),
        ("stuck", {"killed": 1, "unresumed": 1}),
        ("unreached", {}),
    ],
)
def test_what_a_kill_damages_is_counted(fault: str, seen: dict[str, int], tmp_path: Path) -> None:
    """Planted: events vanish or come twice (in both looks), work cannot be resumed, a kill never comes."""
    script = Path(__file__).with_name("planted_faults.py")
    command = [sys.executable, str(script), fault, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert {name: value for name, value in json.loads(done.stdout).items() if value} == seen


def test_a_batch_that_is_there_in_part_is_a_loss() -> None:
    """Whole or not at all; what is there twice, or was never appended, counts as doubled."""
    known, killed = ids(batch(0, "acknowledged")), ids(batch(0, "killed"))
    assert compare(Counter(known), known, killed) == UNHARMED
    assert compare(Counter(known + killed), known, killed) == UNHARMED
    assert compare(Counter(known + killed[:-1]), known, killed) == Damage(lost=1)
    assert compare(Counter(known[1:]), known, ()) == Damage(lost=1)
    assert compare(Counter([*known, known[0], "stranger"]), known, ()) == Damage(doubled=2)


def test_an_account_that_is_overspent_or_lost_its_charge_is_counted(tmp_path: Path) -> None:
    """Planted in the accounts of a ledger, past it."""
    place = Place(url=f"sqlite:///{tmp_path}/ledger.db", folder=tmp_path)
    ChargeCohort().act(place, 0, no_failpoint)
    engine = open_engine(place.url)
    with closing(place.keyring()) as keyring, closing(Ledger.open(place.url, keyring)) as ledger:
        assert compare_ledger(ledger, 1) == UNHARMED
        assert compare_ledger(ledger, 0) == Damage(doubled=1, overspent=len(SUBJECTS))
        assert compare_ledger(ledger, 2) == Damage(lost=1 + len(SUBJECTS))
        for spent, damage in ((3 * PRICE_MU2, Damage(overspent=1)), (PRICE_MU2, Damage(lost=1))):
            with writing(engine) as connection:
                own = (accounts.c.holder == HOLDER, accounts.c.subject == SUBJECTS[0])
                connection.execute(accounts.update().where(*own).values(spent_mu2=spent))
            assert compare_ledger(ledger, 1) == damage
    engine.dispose()


def test_a_process_that_kills_and_fails_itself_ends_the_bench(tmp_path: Path) -> None:
    """A database that does not exist is no result."""
    with pytest.raises(DriverFailed, match="could not be prepared"):
        list(
            kill_everywhere([f"sqlite:///{tmp_path}/nowhere/store.db"] * len(points(["erase"])), 1, ["erase"])
        )


def test_a_store_on_a_full_disk_keeps_what_it_acknowledged_and_goes_on_with_space() -> None:
    """In a process of its own with a limit on the size of files."""
    assert disk_full() == UNHARMED


def test_a_disk_that_never_gets_full_ends_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: so few batches that all fit; nothing was shown then."""
    monkeypatch.setattr(faults_disk, "MOST_BATCHES", 2)
    place = Place(url=f"sqlite:///{tmp_path}/store.db", folder=tmp_path)
    with place.store() as store, pytest.raises(DiskNeverFull, match="2 batches"):
        faults_disk.append_until_full(store)


def test_rows_hold_every_count_against_zero_and_kills_against_all_of_them() -> None:
    """A single fault of any kind misses its target."""
    assert [row.met for row in verdict_rows("flips", SOUND)] == [True] * 3
    assert [row.met for row in verdict_rows("flips", Verdict(accepted=1, unnamed=1, withheld=1))] == [
        False
    ] * 3
    harm = Damage(lost=1, doubled=1, overspent=1, unresumed=1)
    for operation, count in (("charge", 5), ("append", 4)):
        point = FAILPOINTS[operation][0]
        sound = Kills(operation=operation, failpoint=point, wanted=25, killed=25, damage=UNHARMED)
        harmed = Kills(operation=operation, failpoint=point, wanted=25, killed=24, damage=harm)
        assert [row.met for row in kill_rows("SQLite", operation, [sound])] == [True] * count
        assert [row.met for row in kill_rows("SQLite", operation, [sound, harmed])] == [False] * count
    assert [row.met for row in damage_rows("a disk", harm, "events", ("lost",))] == [False]
