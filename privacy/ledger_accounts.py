"""The accounts of shoppers: one conditional statement spends a charge for all of a cohort or for nobody."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Engine, Insert, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from privacy.database import text_set
from privacy.errors import BudgetExceeded
from privacy.ledger_records import CAP_TOLERANCE, Charge
from privacy.schema import accounts

_account = accounts.c


def accounts_of(engine: Engine, holder: str, subjects: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """Return the conditions that choose the accounts of `subjects` (None: of all) with one holder."""
    these = [_account.holder == holder]
    if subjects is not None:
        these.append(_account.subject.in_(text_set(engine, subjects)))
    return these


def charge_accounts(connection: Connection, charge: Charge, cohort: Sequence[str], cap_mu2: float) -> None:
    """Add the price to the account of every shopper of the cohort; `BudgetExceeded` if any would pass the cap.

    One statement: an absent account starts with the price, if the cap allows that much at all, and one that is
    there is changed if the sum fits. Its row count must equal the cohort.
    """
    most = cap_mu2 * (1 + CAP_TOLERANCE)
    with connection.begin_nested() as unless_refused:
        spending = _spending(connection.engine, charge, cohort, most)
        # Without this option the row count of an INSERT is not kept.
        if connection.execute(spending, execution_options={"preserve_rowcount": True}).rowcount == len(
            cohort
        ):
            return
        unless_refused.rollback()
    these = accounts_of(connection.engine, charge.holder, cohort)
    over = _account.spent_mu2 + charge.mu2 > most
    count, highest = connection.execute(
        select(func.count(), func.max(_account.spent_mu2)).where(*these, over)
    ).one()
    raise BudgetExceeded(
        f"{len(cohort) if charge.mu2 > most else count} of {len(cohort)} shoppers of holder {charge.holder!r} would "
        f"pass the cap of mu^2 = {cap_mu2:g} with {charge.mu2:g} more (the highest has spent {highest or 0:g}); "
        "nobody was charged: leave them out, add more noise, or grant a larger budget"
    )


def _spending(engine: Engine, charge: Charge, cohort: Sequence[str], most: float) -> Insert:
    insert = sqlite.insert if engine.name == "sqlite" else postgresql.insert
    subject = text_set(engine, cohort).subquery().c[0]
    # SQLite needs a WHERE here to tell the conflict clause from a join, and it is of use.
    rows = select(literal(charge.holder), subject, literal(charge.mu2)).where(literal(charge.mu2) <= most)
    start = insert(accounts).from_select(["holder", "subject", "spent_mu2"], rows)
    after = _account.spent_mu2 + charge.mu2
    return start.on_conflict_do_update(
        index_elements=["holder", "subject"], set_={"spent_mu2": after}, where=after <= most
    )
