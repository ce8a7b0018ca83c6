"""kill -9 in a small federation of forked processes: a sample of the bench, and that each of its checks can fail."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from client.store import EventStore
from evaluation.bench.faults_federation import PointKills, Victim, judged, kill_federation, points
from evaluation.bench.faults_federation_check import (
    LONGEST_ROUND,
    Found,
    account_damage,
    look,
    stuck_rounds,
)
from evaluation.bench.faults_federation_rows import rows_of
from evaluation.bench.faults_federation_world import CANARY, STEPS, Place, make
from evaluation.bench.faults_scenarios import Damage
from privacy.failpoints import FAILPOINTS, FEDERATION_FAILPOINTS
from privacy.keyring import Keyring
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge
from server.coordination.budget import HOLDER

UNHARMED = Damage()
SAMPLE = [
    (Victim.COORDINATOR, "journal: arrays written"),
    (Victim.NODE, "answer: after charge"),
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A federation in which nothing has run yet."""
    make(tmp_path)
    return Place(root=tmp_path)


def test_a_federation_recovers_from_kills_and_loses_doubles_and_overspends_nothing() -> None:
    """One kill at a sample of the points; each run ends with a version."""
    found = list(kill_federation(SAMPLE, 1))
    assert [(kills.victim, kills.point) for kills in found] == SAMPLE
    assert all((kills.killed, kills.recovered, kills.damage) == (1, 1, UNHARMED) for kills in found), found
    assert not any(kills.stuck or kills.exposed for kills in found)


def test_every_point_of_the_federation_is_killed_at() -> None:
    """More than twenty; those of ledgers at the coordinator and at nodes."""
    named = {point for names in FEDERATION_FAILPOINTS.values() for point in names} | {*FAILPOINTS["charge"]}
    assert {point for _, point in points()} == named
    assert len(points()) == len(set(points())) > 20


def test_what_a_kill_left_is_seen(place: Place) -> None:
    """Planted: a shopper's events are gone, an id lies in the open, an account holds more than its cap."""
    assert look(place) == Found(recovered=False, voided=0, stuck=0, exposed=0, damage=UNHARMED)
    (place.root / "log").write_text(f"failed for {CANARY}-east-1")
    data = place.merchant("east").data
    with (
        closing(Keyring.open(data / "keys")) as keyring,
        EventStore.open(data / "store" / "events.db", keyring, "east") as store,
    ):
        store.erase(store.shoppers()[0])
    with closing(ledger_at(place.words()["ledger"])) as ledger:
        ledger.reserve(_charge(1e6), ["f" * 32], 1e9)
    found = look(place)
    assert (found.exposed, found.voided) == (1, 1)
    assert found.damage == Damage(lost=STEPS, overspent=1)


def test_an_account_holds_what_was_released_and_no_more_than_was_charged_or_its_cap() -> None:
    """Between these it may hold the price of void rounds."""
    assert account_damage(2.0, 1.0, 2.0, 3.0) == UNHARMED
    assert account_damage(0.5, 1.0, 2.0, 3.0) == Damage(lost=1)
    assert account_damage(2.5, 1.0, 2.0, 3.0) == Damage(overspent=1)
    assert account_damage(3.5, 1.0, 4.0, 3.0) == Damage(overspent=1)


def test_a_round_beyond_two_deadlines_is_counted() -> None:
    """From the moment when a cohort is there until its sum is, or the round is planned anew; by process."""
    late = LONGEST_ROUND + 1
    asked = "7 100.0 round: cohort there\n"
    assert stuck_rounds(f"{asked}7 101.0 round: collected\n7 {100 + late} run: learned\n") == 0
    assert stuck_rounds(f"{asked}7 {100 + late} round: collected\n") == 1
    assert stuck_rounds(f"{asked}7 {100 + late} round: planned\n") == 1
    assert stuck_rounds(f"{asked}8 {100 + late} round: collected\n") == 0


def test_a_kill_that_did_not_come_and_a_run_that_did_not_recover_miss_their_targets() -> None:
    """And so does every single count."""
    point = (Victim.NODE, "answer: computed")
    harm = Damage(lost=1, doubled=1, overspent=1)
    sound = judged(*point, True, Found(recovered=True, voided=1, stuck=0, exposed=0, damage=UNHARMED))
    harmed = judged(*point, False, Found(recovered=False, voided=0, stuck=1, exposed=1, damage=harm))
    unseen = judged(*point, True, None)
    assert [row.met for row in rows_of([sound])] == [True, True, None, *[True] * 5, True, None]
    assert [row.met for row in rows_of([sound, harmed])] == [False, False, None, *[False] * 5, False, None]
    assert (unseen.recovered, unseen.damage) == (0, Damage(unresumed=1))
    assert isinstance(sound + unseen, PointKills) and (sound + unseen).wanted == 2


def _charge(mu2: float) -> Charge:
    return Charge(
        release_id="planted",
        holder=HOLDER,
        stage="gradient",
        round=1,
        noise_multiplier=1.0,
        clipping_norm=1.0,
        mu2=mu2,
    )
