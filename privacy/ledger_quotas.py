"""Quotas: what all releases of one merchant may cost together, whichever of its shoppers paid for them."""

from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from privacy.errors import QuotaExceeded
from privacy.ledger_records import CAP_TOLERANCE, Charge, Quota
from privacy.schema import charges, quotas

_quota = quotas.c


def charge_quota(connection: Connection, charge: Charge) -> None:
    """Add the price to what the holder's releases have cost; `QuotaExceeded` if that passes its quota.

    A holder without a quota is charged nothing here.
    """
    this, after = _quota.holder == charge.holder, _quota.spent_mu2 + charge.mu2
    fits = after <= _quota.limit_mu2 * (1 + CAP_TOLERANCE)
    if connection.execute(quotas.update().where(this, fits).values(spent_mu2=after)).rowcount:
        return
    refuse_beyond_quota(connection, [charge.holder], charge.mu2)


def refuse_beyond_quota(connection: Connection, holders: Iterable[str], mu2: float) -> None:
    """Raise `QuotaExceeded` for the first of the holders that has a quota which `mu2` more would pass."""
    granted = read_quotas(connection)
    for holder in holders:
        quota = granted.get(holder)
        if quota is not None and quota.spent_mu2 + mu2 > quota.limit_mu2 * (1 + CAP_TOLERANCE):
            raise QuotaExceeded(
                f"merchant {holder!r} has spent mu^2 = {quota.spent_mu2:g} of its quota of {quota.limit_mu2:g}, "
                f"and {mu2:g} more would pass it; nobody was charged: leave the merchant out, add more noise, or "
                "raise the quota with `fedrank privacy quota`"
            )


def write_quota(connection: Connection, holder: str, limit_mu2: float) -> None:
    """Set or change a holder's quota; what its releases have cost before counts."""
    spent = select(func.coalesce(func.sum(charges.c.mu2), 0.0)).where(charges.c.holder == holder)
    row = {"limit_mu2": limit_mu2, "spent_mu2": spent.scalar_subquery()}
    remove_quota(connection, holder)
    connection.execute(quotas.insert().values(holder=holder, **row))


def remove_quota(connection: Connection, holder: str) -> bool:
    """Remove a holder's quota; return whether it had one."""
    return connection.execute(quotas.delete().where(_quota.holder == holder)).rowcount == 1


def read_quotas(connection: Connection) -> dict[str, Quota]:
    """Return the quotas of all holders that have one, sorted by holder."""
    return {
        row.holder: Quota(limit_mu2=row.limit_mu2, spent_mu2=row.spent_mu2)
        for row in connection.execute(select(quotas).order_by(_quota.holder))
    }
