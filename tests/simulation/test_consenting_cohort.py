"""Only who granted training takes part in a round; a withdrawal or an erasure counts from the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from federation_world import SHOPPERS, population

from client.cohort import Cohort, Home, cohort_at
from client.consent import Purpose
from client.store import EventStore
from client.store_consent import Consents
from client.store_retention import expire
from privacy.keyring import Keyring
from server.coordination.config import Participants


def cohort_of(folder: Path) -> Cohort:
    """What the only node of a population carries into a round."""
    home = Home(
        population=str(folder),
        ledger=str(folder / "ledger.db"),
        ledger_keys=str(folder / "keys"),
        node=0,
        nodes=1,
    )
    return cohort_at(home)


def decide(folder: Path, holder: str, shoppers: tuple[str, ...], purpose: Purpose, *, granted: bool) -> None:
    """Record a decision at one holder."""
    with EventStore.open(folder / "store" / "events.db", Keyring.open(folder / "keys"), holder) as store:
        Consents(store.access).record(shoppers, [purpose], granted=granted, origin="a test")


def test_a_device_that_withdraws_is_in_no_later_round(tmp_path: Path) -> None:
    """Import grants it to all; one withdraws, one withdraws the profile alone, one is erased, one comes back."""
    people = population(tmp_path)
    first, second, third = people.devices[:3]
    (unit,) = cohort_of(tmp_path).units
    assert unit.participants == len(unit.shoppers) == SHOPPERS + 1
    decide(tmp_path, "devices", (first,), Purpose.TRAINING, granted=False)
    decide(tmp_path, "devices", (second,), Purpose.PROFILE, granted=False)
    with EventStore.open(
        tmp_path / "store" / "events.db", Keyring.open(tmp_path / "keys"), "devices"
    ) as store:
        store.erase(third)
    (unit,) = cohort_of(tmp_path).units
    assert unit.participants == SHOPPERS - 1
    assert set(people.devices) - set(unit.shoppers.pseudonyms) == {first, third}
    decide(tmp_path, "devices", (first,), Purpose.TRAINING, granted=True)
    assert first in cohort_of(tmp_path).units[0].shoppers.pseudonyms


def test_a_merchant_learns_from_consenting_shoppers_alone(tmp_path: Path) -> None:
    """Its own shoppers decide at each merchant by themselves; the others are as they were."""
    population(tmp_path, Participants.MERCHANTS)
    before = {unit.holder: unit.shoppers.pseudonyms for unit in cohort_of(tmp_path).units}
    leaving = before["m0"][:5]
    decide(tmp_path, "m0", leaving, Purpose.TRAINING, granted=False)
    after = {unit.holder: unit.shoppers.pseudonyms for unit in cohort_of(tmp_path).units}
    assert set(before["m0"]) - set(after["m0"]) == set(leaving)
    assert {name: own for name, own in after.items() if name != "m0"} == {
        name: own for name, own in before.items() if name != "m0"
    }


def test_where_nobody_consents_no_device_takes_part(tmp_path: Path) -> None:
    """The node then answers for nobody, and no account is charged."""
    people = population(tmp_path)
    decide(tmp_path, "devices", people.devices, Purpose.TRAINING, granted=False)
    cohort = cohort_of(tmp_path)
    assert (cohort.units, cohort.participants) == ((), 0)


def test_shoppers_stay_in_memory_while_nobody_decides(tmp_path: Path) -> None:
    """Rounds that follow each other share the very same arrays."""
    population(tmp_path)
    assert cohort_of(tmp_path).units[0] is cohort_of(tmp_path).units[0]


def test_what_retention_or_an_erasure_deletes_is_in_no_later_round(tmp_path: Path) -> None:
    """Loaded events are looked up anew: the old ones, and those of who was erased and granted again, are gone."""
    people = population(tmp_path)
    before = cohort_of(tmp_path).units[0].shoppers
    times = before.histories.times
    middle = int(np.median(times))
    assert times.min() < middle
    with EventStore.open(
        tmp_path / "store" / "events.db", Keyring.open(tmp_path / "keys"), "devices"
    ) as store:
        expire(store.access, middle, pace=0)
        kept = cohort_of(tmp_path).units[0].shoppers
        store.erase(people.devices[0])
    decide(tmp_path, "devices", people.devices[:1], Purpose.TRAINING, granted=True)
    assert kept.histories.times.min() >= middle
    assert len(cohort_of(tmp_path).units[0].shoppers.histories.times) < len(kept.histories.times)
