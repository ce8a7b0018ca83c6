"""Whether a ledger's sums agree with its charges: accounts and quotas are running sums and in no chain."""

import math
from typing import Final

from sqlalchemy import Connection, func, select

from privacy.errors import LedgerDamaged
from privacy.ledger_quotas import read_quotas
from privacy.schema import accounts, charges

# Far above the rounding of sums over millions of accounts, far below one shopper's share in them.
_TOLERANCE: Final = 1e-9


def check_sums(connection: Connection) -> None:
    """Raise `LedgerDamaged` if a holder's accounts, or its quota, do not add up to its charges."""
    charge, account = charges.c, accounts.c
    paid = select(charge.holder, func.sum(charge.mu2 * charge.subjects), func.sum(charge.mu2))
    by_holder = {
        name: (total, once) for name, total, once in connection.execute(paid.group_by(charge.holder))
    }
    held = select(account.holder, func.sum(account.spent_mu2)).group_by(account.holder)
    spent: dict[str, float] = dict(list(connection.execute(held)))
    for name in sorted({*by_holder, *spent}):
        _check(f"the accounts of holder {name!r}", spent.get(name, 0.0), by_holder.get(name, (0.0, 0.0))[0])
    for name, quota in read_quotas(connection).items():
        _check(f"the quota of holder {name!r}", quota.spent_mu2, by_holder.get(name, (0.0, 0.0))[1])


def _check(what: str, found: float, charged: float) -> None:
    if not math.isclose(found, charged, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        raise LedgerDamaged(
            f"the ledger is damaged: {what} add up to mu^2 = {found:.12g}, and its charges to {charged:.12g}; "
            "restore the newest backup"
        )
