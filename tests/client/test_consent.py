"""Consent: opt-in, sealed with its history under the shopper's own key, withdrawn and erased like everything else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from client.consent import DamagedConsent, Decision, InvalidConsent, Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from privacy.database import reading, writing
from privacy.keyring import Keyring
from privacy.pseudonyms import NotAPseudonym
from privacy.schema import consents as table

ANNA, BERTA, CLARA = (f"{number:032x}" for number in range(3))
NOW = 1_700_000_000


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[EventStore]:
    """An empty store on each kind of database."""
    with EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "devices") as store:
        yield store


def grant(store: EventStore, *shoppers: str, granted: bool = True, at: int = NOW) -> int:
    """Record a decision on training."""
    consents = Consents(store.access, clock=lambda: at)
    return consents.record(shoppers, [Purpose.TRAINING], granted=granted, origin="a test")


def decision(granted: bool, at: int = NOW) -> Decision:
    """What `grant` records."""
    return Decision(purpose=Purpose.TRAINING, granted=granted, time=at, origin="a test")


def test_nothing_is_granted_until_it_is(store: EventStore) -> None:
    """Events alone allow nothing; each purpose is decided by itself."""
    store.append([Event(shopper=ANNA, item_id="a", kind="view", timestamp=1)])
    consents = Consents(store.access)
    assert consents.granted(Purpose.TRAINING) == set()
    assert consents.history(ANNA) == ()
    assert grant(store, ANNA) == 1
    assert consents.granted(Purpose.TRAINING) == {ANNA}
    assert consents.granted(Purpose.PROFILE) == set()
    assert consents.granted(Purpose.TRAINING, [BERTA]) == set()


def test_every_change_is_kept_and_a_repetition_is_none(store: EventStore) -> None:
    """Granted, withdrawn and granted again, with the time of each; saying it twice changes nothing."""
    changes = [
        grant(store, ANNA, BERTA, granted=yes, at=NOW + n) for n, yes in enumerate((True, True, False))
    ]
    assert changes == [2, 0, 2]
    assert grant(store, ANNA, at=NOW + 5) == 1
    consents = Consents(store.access)
    assert consents.history(ANNA) == (decision(True), decision(False, NOW + 2), decision(True, NOW + 5))
    assert consents.granted(Purpose.TRAINING) == {ANNA}


def test_the_first_no_is_worth_keeping(store: EventStore) -> None:
    """Who was asked and refused is told from who was never asked."""
    assert grant(store, ANNA, granted=False) == 1
    assert Consents(store.access).history(ANNA) == (decision(False),)


def test_what_can_be_no_decision_is_refused_and_leaves_nothing(store: EventStore) -> None:
    """An origin that says nothing, or a shopper's own id."""
    consents = Consents(store.access)
    for origin in ("", "x" * 201, "line\nbreak"):
        with pytest.raises(InvalidConsent, match="origin"):
            consents.record([ANNA], [Purpose.PROFILE], granted=True, origin=origin)
    with pytest.raises(NotAPseudonym):
        grant(store, ANNA, "anna@example.com")
    assert consents.granted(Purpose.TRAINING) == set()


def test_a_damaged_or_moved_record_grants_nothing(store: EventStore) -> None:
    """Another shopper's yes, put in place of one's own, is not believed; nor is it overwritten unseen."""
    grant(store, ANNA, BERTA)
    grant(store, BERTA, granted=False)
    own = table.c.shopper
    with writing(store.access.engine) as connection:
        yes = connection.execute(select(table.c.sealed).where(own == ANNA)).scalar_one()
        connection.execute(table.update().where(own == BERTA).values(sealed=yes))
    consents = Consents(store.access)
    assert consents.granted(Purpose.TRAINING) == {ANNA}
    with pytest.raises(DamagedConsent, match="1 records"):
        consents.history(BERTA)
    with pytest.raises(DamagedConsent, match="erase"):
        grant(store, BERTA)


def test_an_erasure_takes_the_decisions_along(store: EventStore) -> None:
    """Nothing is granted afterwards, and the shopper may decide anew."""
    grant(store, ANNA, BERTA)
    store.erase(ANNA)
    assert Consents(store.access).granted(Purpose.TRAINING) == {BERTA}
    assert Consents(store.access).history(ANNA) == ()
    assert grant(store, ANNA, granted=False) == 1


def test_decisions_that_are_made_at_once_are_all_kept(store: EventStore) -> None:
    """Threads decide on two purposes of one shopper: each history is a strict turn of yes and no."""

    def decide(number: int) -> int:
        purpose = (Purpose.TRAINING, Purpose.PROFILE)[number % 2]
        return Consents(store.access).record(
            [ANNA], [purpose], granted=number % 4 < 2, origin=f"turn {number}"
        )

    with ThreadPoolExecutor(4) as pool:
        changed = sum(pool.map(decide, range(40)))
    history = Consents(store.access).history(ANNA)
    assert len(history) == changed
    for purpose in Purpose:
        answers = [one.granted for one in history if one.purpose is purpose]
        assert answers
        assert all(before is not after for before, after in pairwise(answers))


def test_the_stamp_tells_that_somebody_decided(store: EventStore) -> None:
    """It is the same while nobody did, and looks at the shoppers that were named alone."""
    consents = Consents(store.access)
    before, berta = consents.stamp(), consents.stamp([BERTA])
    grant(store, ANNA)
    assert consents.stamp() != before
    assert consents.stamp([BERTA]) == berta
    now = consents.stamp([ANNA])
    assert consents.stamp([ANNA]) == now
    store.erase(ANNA)
    assert consents.stamp([ANNA]) != now


def test_no_decision_can_be_read_in_the_database(store: EventStore) -> None:
    """Purpose, origin and time are sealed; the row tells that there is a record, and whose pseudonym it bears."""
    Consents(store.access).record([CLARA], tuple(Purpose), granted=True, origin="canary-origin")
    with reading(store.access.engine) as connection:
        (row,) = connection.execute(select(table)).all()
    assert row.shopper == CLARA
    assert not [
        word for word in (b"canary", b"training", b"profile", b"granted") if word in bytes(row.sealed)
    ]
