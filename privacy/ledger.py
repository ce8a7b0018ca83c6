"""The durable budget ledger: what every shopper has spent, charged before any noise is drawn.

Reserve, release, commit. A reservation is one durable transaction and is never refunded: after a crash
between reserve and commit the budget counts as spent, because the release may have left. Privacy is priced in
mu^2 of Gaussian differential privacy, which adds up over adaptive releases (Dong, Roth and Su, "Gaussian
differential privacy", JRSS-B 2022, corollary 3.3); `privacy.accountant` turns a sum into epsilon and delta.
"""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from sqlalchemy import ColumnElement, Connection, Engine, func, literal, select, true
from sqlalchemy.dialects import postgresql, sqlite

from privacy import ledger_schema as tables
from privacy.database import open_engine, prepare_part, reading, text_set, writing
from privacy.errors import BudgetExceeded, LedgerConflict, LedgerError, UnknownCharge
from privacy.ledger_records import Charge, ChargeRecord, ChargeState, HolderStatement, check_amount
from privacy.pseudonyms import check_pseudonyms

# Sums of many mu^2 drift by some units in the last place; a cap met exactly must not be refused for that.
_CAP_TOLERANCE: Final = 1e-9
_account, _charge = tables.accounts.c, tables.charges.c


def utc_now() -> datetime:
    """Return the time of the system clock in UTC."""
    return datetime.now(UTC)


def no_failpoint(_name: str) -> None:
    """Do nothing at a failpoint; tests pass a function that kills the process at one."""


class Ledger:
    """Accounts of spent privacy, one per holder and shopper, shared by any number of processes."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], datetime] = utc_now,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> None:
        """Use an engine whose tables are there already; `Ledger.open` makes one."""
        self._engine = engine
        self._clock = clock
        self._failpoint = failpoint

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> Self:
        """Open the ledger at a database URL or SQLite path; a new one is made if absent and `create`.

        Raises `DatabaseMissing`, `NewerSchema`, or `DatabaseError` with the reason.
        """
        engine = open_engine(url, create=create)
        facts = {"id": uuid.uuid4().hex}
        prepare_part(engine, tables.meta, tables.PART, tables.SCHEMA_VERSION, create=create, facts=facts)
        return cls(engine, clock, failpoint)

    def reserve(self, charge: Charge, subjects: Sequence[str], cap_mu2: float) -> bool:
        """Charge `charge.mu2` to every subject (the holder's pseudonyms), durably, or to none of them.

        Returns True if this call spent the budget, and False if the very same charge and cohort were there
        already, so that a repetition costs nothing; whatever it paid for may then have left before. Raises
        `BudgetExceeded` if any subject would pass `cap_mu2`, `LedgerConflict` if the release is known with
        other parameters, `InvalidCharge` for a cap that is negative or not finite.
        """
        check_amount("the budget cap", cap_mu2)
        cohort = _checked_cohort(subjects)
        digest = hashlib.sha256("\n".join(cohort).encode()).hexdigest()
        with writing(self._engine) as connection:
            _one_at_a_time(connection, charge.holder)
            if _is_known(connection, charge, digest):
                return False
            self._enrol(connection, charge.holder, cohort)
            self._spend(connection, charge, cohort, cap_mu2)
            row = tables.row_of(charge, len(cohort), digest, self._now())
            connection.execute(tables.charges.insert().values(row))
            self._failpoint("reserve: before commit")
        self._failpoint("reserve: after commit")
        return True

    def commit(self, release_id: str, holder: str) -> None:
        """Note that the release has left; a repetition changes nothing. `UnknownCharge` if not reserved."""
        this = (_charge.release_id == release_id, _charge.holder == holder)
        committed = {"state": ChargeState.COMMITTED, "committed_at": self._now()}
        with writing(self._engine) as connection:
            if connection.execute(select(_charge.state).where(*this)).scalar_one_or_none() is None:
                raise UnknownCharge(
                    f"release {release_id!r} of holder {holder!r} was not reserved; reserve its budget first"
                )
            reserved = _charge.state == ChargeState.RESERVED
            connection.execute(tables.charges.update().where(*this, reserved).values(committed))

    def spent(self, holder: str, subjects: Sequence[str] | None = None) -> float:
        """Return the highest mu^2 that any of `subjects` (default: all) has spent with `holder`, or 0.0."""
        query = select(func.max(_account.spent_mu2)).where(*self._of(holder, subjects))
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one() or 0.0

    def spent_by_subject(self, holder: str, subjects: Sequence[str] | None = None) -> dict[str, float]:
        """Return the mu^2 spent by each subject that has an account with this holder."""
        query = select(_account.subject, _account.spent_mu2).where(*self._of(holder, subjects))
        with reading(self._engine) as connection:
            return dict(list(connection.execute(query)))

    def charges(self, holder: str | None = None) -> list[ChargeRecord]:
        """Return the charges of one holder (default: of all), in the order of their reservation."""
        with reading(self._engine) as connection:
            return _read_charges(connection, holder)

    def statement(self, holder: str | None = None) -> tuple[HolderStatement, ...]:
        """Return the state of one holder's account (default: of every holder's), sorted by holder."""
        totals = select(_account.holder, func.count(), func.max(_account.spent_mu2)).group_by(_account.holder)
        by_holder: dict[str, list[ChargeRecord]] = {}
        with reading(self._engine) as connection:
            accounts_of = {name: (count, highest) for name, count, highest in connection.execute(totals)}
            for record in _read_charges(connection, holder):
                by_holder.setdefault(record.charge.holder, []).append(record)
        names = sorted(by_holder) if holder is None else [holder]
        return tuple(
            _statement(name, accounts_of.get(name, (0, 0.0)), by_holder.get(name, [])) for name in names
        )

    def identity(self) -> str:
        """Return the random id that this ledger was given when it was made."""
        meta = tables.meta
        query = select(meta.c.value).where(meta.c.part == tables.PART, meta.c.name == "id")
        with reading(self._engine) as connection:
            return str(connection.execute(query).scalar_one())

    def close(self) -> None:
        """Give the database connections back."""
        self._engine.dispose()

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")

    def _of(self, holder: str, subjects: Sequence[str] | None) -> list[ColumnElement[bool]]:
        these = [_account.holder == holder]
        if subjects is not None:
            these.append(_account.subject.in_(text_set(self._engine, subjects)))
        return these

    def _enrol(self, connection: Connection, holder: str, cohort: list[str]) -> None:
        insert = sqlite.insert if self._engine.name == "sqlite" else postgresql.insert
        subject = text_set(self._engine, cohort).subquery().c[0]
        # SQLite needs a WHERE here to tell the conflict clause from a join.
        rows = select(literal(holder), subject, literal(0.0)).where(true())
        names = ["holder", "subject", "spent_mu2"]
        connection.execute(insert(tables.accounts).from_select(names, rows).on_conflict_do_nothing())

    def _spend(self, connection: Connection, charge: Charge, cohort: list[str], cap_mu2: float) -> None:
        these = self._of(charge.holder, cohort)
        after = _account.spent_mu2 + charge.mu2
        fits = after <= cap_mu2 * (1 + _CAP_TOLERANCE)
        charged = connection.execute(
            tables.accounts.update().where(*these, fits).values(spent_mu2=after)
        ).rowcount
        if charged == len(cohort):
            return
        # Whoever could not be charged still has the old sum, which is what the caller needs to know.
        (highest,) = connection.execute(select(func.max(_account.spent_mu2)).where(*these, ~fits)).one()
        raise BudgetExceeded(
            f"{len(cohort) - charged} of {len(cohort)} shoppers of holder {charge.holder!r} would pass the "
            f"cap of mu^2 = {cap_mu2:g} with {charge.mu2:g} more (the highest has spent {highest:g}); nobody "
            "was charged: leave them out, add more noise, or grant a larger budget"
        )


def _one_at_a_time(connection: Connection, holder: str) -> None:
    # SQLite has one writer anyway. On PostgreSQL two cohorts of one holder could lock each other's rows.
    if connection.engine.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(holder, 0))))


def _checked_cohort(subjects: Sequence[str]) -> list[str]:
    check_pseudonyms(subjects)
    cohort = sorted(set(subjects))
    if len(cohort) < len(subjects):
        raise LedgerError(
            f"{len(subjects) - len(cohort)} of {len(subjects)} subjects are repeated; name each shopper once"
        )
    return cohort


def _is_known(connection: Connection, charge: Charge, cohort_digest: str) -> bool:
    this = (_charge.release_id == charge.release_id, _charge.holder == charge.holder)
    row = connection.execute(select(tables.charges).where(*this)).one_or_none()
    if row is None:
        return False
    known = tables.record_of(row)
    if known.charge == charge and known.cohort_digest == cohort_digest:
        return True
    what = "another cohort" if known.charge == charge else "other parameters"
    raise LedgerConflict(
        f"release {charge.release_id!r} of holder {charge.holder!r} is in the ledger with {what}; "
        "a different release needs a new release id"
    )


def _read_charges(connection: Connection, holder: str | None) -> list[ChargeRecord]:
    query = select(tables.charges).order_by(_charge.reserved_at, _charge.round, _charge.release_id)
    if holder is not None:
        query = query.where(_charge.holder == holder)
    return [tables.record_of(row) for row in connection.execute(query)]


def _statement(name: str, account: tuple[int, float], records: list[ChargeRecord]) -> HolderStatement:
    count, highest = account
    return HolderStatement(holder=name, accounts=count, highest_mu2=highest, charges=tuple(records))
