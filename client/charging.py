"""What a release costs a participant's shoppers: charged to every one of them before anything is computed."""

from __future__ import annotations

from typing import Final

from client.cohort import Cohort, Unit
from client.errors import ClientError
from privacy.errors import BudgetExceeded, LedgerConflict
from privacy.ledger_records import Charge
from privacy.plan import Trust
from proto.federation import Task

PRICE_TOLERANCE: Final = 1e-9
SMALLEST_NORM, LARGEST_NORM = 1e-6, 1e6
"""Bounds of a clipping norm, within which no sum of shares overflows or loses its digits."""


class AlreadyAnswered(ClientError):
    """The coordinator asked twice for one release."""


class PriceRefused(ClientError):
    """The price of a release does not cover its noise."""


class CapReached(ClientError):
    """The accounts of shoppers do not allow the price."""


def reserve(task: Task, cohort: Cohort) -> list[Charge]:
    """Charge every shopper of every unit for this release, durably; trust `none` charges nothing.

    The ledger remembers the release of a unit without shoppers too. Were it answered again, its shares of the noise
    could be averaged, and that nobody has an account there would be told.

    Raises:
        PriceRefused: the coordinator names a price below what its noise costs, or numbers that have no price.
        AlreadyAnswered: the release was paid for before; a second answer under fresh noise would be a second
            release at the price of one.
        CapReached: somebody would pass the cap.
    """
    _check_numbers(task)
    _check_price(task)
    charges: list[Charge] = []
    for unit in cohort.units if task.trust != Trust.NONE else ():
        charge = _charge(task, cohort, unit)
        if not _paid(task, cohort, unit, charge):
            raise AlreadyAnswered(
                f"round {task.round} ({task.stage}) was answered before; ask for a new round"
            )
        charges.append(charge)
    return charges


def _paid(task: Task, cohort: Cohort, unit: Unit, charge: Charge) -> bool:
    """Charge a unit; False if it has paid for this release before.

    The ledger's own words stay here: they count shoppers, and tell whether one came or went since an earlier
    question. A coordinator could ask for them at no price.
    """
    try:
        return cohort.ledger.reserve(charge, unit.shoppers.pseudonyms, task.cap_mu2)
    except LedgerConflict:
        return False
    except BudgetExceeded:
        raise CapReached(
            f"{task.mu2:g} more would pass the cap of mu^2 = {task.cap_mu2:g} on an account of {unit.holder}; nobody "
            "was charged: add more noise, or agree on a larger budget"
        ) from None


def _check_numbers(task: Task) -> None:
    """Refuse numbers that no honest coordinator sends: no steps would cost nothing, and a sum could overflow."""
    if task.steps < 1:
        raise PriceRefused(f"round {task.round} ({task.stage}) has {task.steps} steps; it takes at least 1")
    if not SMALLEST_NORM <= task.clipping_norm <= LARGEST_NORM:
        raise PriceRefused(
            f"round {task.round} ({task.stage}) has clipping norm {task.clipping_norm:g}; it must be "
            f"{SMALLEST_NORM:g} to {LARGEST_NORM:g}"
        )


def _check_price(task: Task) -> None:
    """Refuse a price under the cost of the stated noise: the ledger would promise more than the noise keeps."""
    if task.trust != Trust.NONE and not task.mu2 * task.noise_multiplier**2 >= task.steps * (
        1 - PRICE_TOLERANCE
    ):
        raise PriceRefused(
            f"round {task.round} ({task.stage}) is priced at mu^2 {task.mu2:.4g}; noise of "
            f"{task.noise_multiplier:.4g} clipping norms in {task.steps} steps costs more; ask with the right price"
        )


def _charge(task: Task, cohort: Cohort, unit: Unit) -> Charge:
    return Charge(
        release_id=f"{task.release_id}, {cohort.name}",
        holder=unit.holder,
        stage=task.stage,
        round=task.round,
        noise_multiplier=task.noise_multiplier,
        clipping_norm=task.clipping_norm,
        mu2=task.mu2,
    )
