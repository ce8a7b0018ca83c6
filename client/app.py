"""The Flower ClientApp of a participant: the same for a merchant, a device, and a cohort of them in simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client import work
from client.cohort import Cohort, Unit, cohort_at, home_of
from client.errors import ClientError
from client.public import check_public
from client.whole import whole
from privacy.errors import BudgetExceeded, LedgerConflict, QuotaExceeded
from privacy.ledger_records import Charge
from privacy.plan import Trust
from proto.federation import (
    CONTRIBUTION,
    EVERYONE,
    PUBLIC,
    RECEIPT,
    TASK,
    Receipt,
    Task,
    WireError,
    layout_of,
)

Parts = dict[str, NDArray[np.float64]]
Work = Callable[[Task, Cohort, Mapping[str, NDArray[np.generic]]], Parts]

PRICE_TOLERANCE = 1e-9

app = ClientApp()


class AlreadyAnswered(ClientError):
    """The coordinator asked twice for one release."""


class PriceRefused(ClientError):
    """The price of a release does not cover its noise."""


@app.train("counts")
def counts(message: Message, context: Context) -> Message:
    """Answer with the item counts of each unit."""
    return _answer(message, context, lambda task, cohort, public: _each(work.counts, task, cohort, public))


@app.train("gram")
def gram(message: Message, context: Context) -> Message:
    """Answer with the Gram triangle of each unit."""
    return _answer(message, context, lambda task, cohort, public: _each(work.gram, task, cohort, public))


@app.train("subspace")
def subspace(message: Message, context: Context) -> Message:
    """Answer with the Gram triangle of each unit inside the public basis."""
    return _answer(message, context, lambda task, cohort, public: _each(work.subspace, task, cohort, public))


@app.train("baskets")
def baskets(message: Message, context: Context) -> Message:
    """Answer with the moment of what is taken together, summed over all units."""
    return _answer(
        message, context, lambda task, cohort, public: _together(work.baskets, task, cohort, public)
    )


@app.train("gradient")
def gradient(message: Message, context: Context) -> Message:
    """Answer with the clipped gradient summed over all units."""
    return _answer(message, context, _gradient_sum)


@app.train("fusion")
def fusion(message: Message, context: Context) -> Message:
    """Answer with what histories teach the surfaces, summed over all units."""
    return _answer(
        message, context, lambda task, cohort, public: _together(work.fusion, task, cohort, public)
    )


def _answer(message: Message, context: Context, compute: Work) -> Message:
    """Check the question, charge the shoppers, then compute; a refusal is an answer with the reason.

    What is refused depends on the question and on accounts, never on what a shopper did.
    """
    task = Task.from_record(message.content.config_records[TASK])
    work.loss_of(task)  # before anything is charged
    work.basket_kinds_of(task)
    layout_of(task)
    public = _public(message)
    cohort = cohort_at(home_of(context.node_config, context.run_config))
    try:
        check_public(task.stage, public, len(cohort.catalogue), cohort.units)
        charges = _reserve(task, cohort)
    except (
        WireError,
        BudgetExceeded,
        QuotaExceeded,
        LedgerConflict,
        AlreadyAnswered,
        PriceRefused,
    ) as refusal:
        return _reply(message, task, cohort, {}, str(refusal))
    parts = whole(task, cohort, public, compute(task, cohort, public)) if cohort.units else {}
    for charge in charges:
        cohort.ledger.commit(charge.release_id, charge.holder)
    return _reply(message, task, cohort, parts)


def _public(message: Message) -> dict[str, NDArray[np.generic]]:
    records = message.content.array_records
    return {name: array.numpy() for name, array in records[PUBLIC].items()} if PUBLIC in records else {}


def _each(
    compute: Callable[..., NDArray[np.float64]],
    task: Task,
    cohort: Cohort,
    public: Mapping[str, NDArray[np.generic]],
) -> Parts:
    size = len(cohort.catalogue)
    return {unit.part: compute(task, unit, public, size) for unit in cohort.units}


def _together(
    compute: Callable[..., NDArray[np.float64]],
    task: Task,
    cohort: Cohort,
    public: Mapping[str, NDArray[np.generic]],
) -> Parts:
    parts = _each(compute, task, cohort, public)
    return {EVERYONE: np.sum(list(parts.values()), axis=0)} if parts else {}


def _gradient_sum(task: Task, cohort: Cohort, public: Mapping[str, NDArray[np.generic]]) -> Parts:
    size = len(cohort.catalogue)
    totals: dict[str, NDArray[np.float64]] = {}
    for unit in cohort.units:
        for name, value in work.gradient(task, unit, public, size).items():
            totals[name] = totals.get(name, 0.0) + value.astype(np.float64)
    return {f"{EVERYONE}/{name}": total for name, total in totals.items()}


def _reserve(task: Task, cohort: Cohort) -> list[Charge]:
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


def _reply(message: Message, task: Task, cohort: Cohort, parts: Parts, refused: str = "") -> Message:
    receipt = Receipt(
        release_id=task.release_id,
        stage=task.stage,
        round=task.round,
        model_hash=task.model_hash,
        participants=0 if refused else cohort.participants,
        refused=refused,
    )
    content = RecordDict({RECEIPT: ConfigRecord(dict(receipt.to_record()))})
    if parts:
        content[CONTRIBUTION] = ArrayRecord({name: Array(value) for name, value in parts.items()})
    return Message(content, reply_to=message)
