"""Durable budget charges: how many shoppers one transaction of the ledger charges per second."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from evaluation.bench import storage_world as world
from evaluation.bench.storage_bulk import NewDatabase
from evaluation.errors import EvaluationError
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_records import Charge

PRICE_MU2, CAP_MU2 = 0.01, 4.0


class NotCharged(EvaluationError):
    """A charge that was acknowledged is not in the accounts, so that its speed means nothing."""


def charge_seconds(new: NewDatabase, shoppers: int, charges: int) -> list[float]:
    """Charge one cohort several times, a release each, and return the seconds of every charge.

    The first one opens the accounts; all are durable when they return.

    Raises:
        NotCharged: an account does not hold what was charged to it.
    """
    subjects, seconds = world.pseudonyms(shoppers), []
    with (
        new() as url,
        TemporaryDirectory() as folder,
        closing(Keyring.open(Path(folder) / "keys")) as keyring,
        closing(Ledger.open(url, keyring)) as ledger,
    ):
        for number in range(charges):
            before = time.perf_counter()
            ledger.reserve(_charge(number), subjects, CAP_MU2)
            seconds.append(time.perf_counter() - before)
        spent = ledger.spent_by_subject(world.HOLDER)
    due = charges * PRICE_MU2
    wrong = sum(abs(value - due) > 1e-9 for value in spent.values()) + abs(len(spent) - shoppers)
    if wrong:
        raise NotCharged(f"{wrong} of {shoppers} accounts do not hold mu^2 = {due:g} after {charges} charges")
    return seconds


def _charge(number: int) -> Charge:
    return Charge(
        release_id=f"release-{number}",
        holder=world.HOLDER,
        stage="gradient",
        round=number,
        noise_multiplier=10.0,
        clipping_norm=1.0,
        mu2=PRICE_MU2,
    )
