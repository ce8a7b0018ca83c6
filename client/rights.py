"""Access: everything that one holder keeps about a shopper, for the shopper. Erasure is in `client.receipts`."""

import math
from typing import Any, Final

from client.consent import DamagedConsent, Decision
from client.events import COLUMN_NAMES, Event
from client.store import EventStore
from client.store_consent import Consents
from privacy.accountant import epsilon_of
from privacy.ledger import Ledger
from privacy.ledger_records import ChargeRecord

_RELEASES_NOTE: Final = (
    "releases that this holder's cohorts have paid for; the ledger keeps a digest of each cohort and no list, so it "
    "cannot say which of them a single shopper was part of"
)


def export_of(store: EventStore, shopper_id: str, ledger: Ledger | None, delta: float) -> dict[str, Any]:
    """Return everything held about a shopper as values that JSON can write; never a key.

    Args:
        ledger: the budget ledger that the holder pays in, if there is one.
        delta: at which the spent epsilon is stated.

    What does not open is counted.
    """
    holder = store.access.holder
    shopper = store.access.keys.pseudonymiser.of(shopper_id)
    events = store.history(shopper)
    decisions, damaged = _decisions(store, shopper)
    return {
        "holder": holder,
        "pseudonym": shopper,
        "events": [_event(event) for event in events],
        "rows_that_do_not_open": len(store.quarantined),
        "consents": [
            {
                "purpose": str(one.purpose),
                "granted": one.granted,
                "time": one.time,
                "origin": one.origin,
            }
            for one in decisions
        ],
        "consents_that_do_not_open": damaged,
        "budget": None if ledger is None else _budget(ledger, holder, shopper, delta),
    }


def _decisions(store: EventStore, shopper: str) -> tuple[tuple[Decision, ...], int]:
    """Return a shopper's decisions, and how many records of them (one or none) do not open."""
    try:
        return Consents(store.access).history(shopper), 0
    except DamagedConsent:
        return (), 1


def _event(event: Event) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in COLUMN_NAMES if name != "shopper"}
    return {name: value for name, value in values.items() if value is not None}


def _budget(ledger: Ledger, holder: str, shopper: str, delta: float) -> dict[str, Any]:
    """Return what a shopper has spent, and on which releases it may have been; nothing for one without account."""
    spent = ledger.spent_by_subject(holder, [shopper]).get(shopper)
    if spent is None:
        return {"spent_mu2": 0.0, "releases": []}
    return {
        "spent_mu2": spent,
        "spent_epsilon": epsilon_of(math.sqrt(spent), delta),
        "delta": delta,
        "releases": [_release(record) for record in ledger.charges(holder)],
        "releases_are": _RELEASES_NOTE,
    }


def _release(record: ChargeRecord) -> dict[str, Any]:
    return {
        "release_id": record.charge.release_id,
        "stage": record.charge.stage,
        "round": record.charge.round,
        "mu2": record.charge.mu2,
        "noise_multiplier": record.charge.noise_multiplier,
        "cohort": record.subjects,
        "state": str(record.state),
        "reserved_at": record.reserved_at,
    }
