"""What a release costs a participant's shoppers: charged to every one of them before anything is computed."""

from __future__ import annotations

from client.cohort import Cohort, Unit
from client.errors import ClientError
from privacy.ledger_records import Charge
from privacy.plan import Trust
from proto.federation import Task

PRICE_TOLERANCE = 1e-9


class AlreadyAnswered(ClientError):
    """The coordinator asked twice for one release."""


class PriceRefused(ClientError):
    """The price of a release does not cover its noise."""


def reserve(task: Task, cohort: Cohort) -> list[Charge]:
    """Charge every shopper of every unit for this release, durably; trust `none` charges nothing.

    Raises:
        PriceRefused: the coordinator names a price below what its noise costs.
        AlreadyAnswered: the release was paid for before; a second answer under fresh noise would be a second
            release at the price of one.
    """
    _check_price(task)
    charges: list[Charge] = []
    for unit in cohort.units if task.trust != Trust.NONE else ():
        if unit.shoppers:
            charge = _charge(task, cohort, unit)
            if not cohort.ledger.reserve(charge, unit.shoppers.pseudonyms, task.cap_mu2):
                raise AlreadyAnswered(
                    f"round {task.round} ({task.stage}) was answered before; ask for a new round"
                )
            charges.append(charge)
    return charges


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
