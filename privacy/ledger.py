"""The durable budget ledger: what every shopper has spent, charged before any noise is drawn.

Reserve, release, commit. A reservation is one durable transaction and is never refunded: after a crash
between reserve and commit the budget counts as spent, because the release may have left. Privacy is priced in
mu^2 of Gaussian differential privacy, which adds up over adaptive releases (Dong, Roth and Su, "Gaussian
differential privacy", JRSS-B 2022, corollary 3.3); `privacy.accountant` turns a sum into epsilon and delta.

Every reservation continues a keyed chain, and the keyring remembers the newest link before the caller may draw
noise: so an older copy of the ledger, or an empty one in its place, is refused (`privacy.ledger_chain`).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection, Engine, func, select

from privacy.anchor import Anchor
from privacy.database import reading, writing
from privacy.errors import LedgerError, UnknownCharge
from privacy.failpoints import Failpoint, no_failpoint
from privacy.keyring import Keyring
from privacy.ledger_accounts import accounts_of, charge_accounts
from privacy.ledger_chain import Chain
from privacy.ledger_opening import catch_up, checked, open_ledger
from privacy.ledger_quota_state import QuotaState
from privacy.ledger_quotas import charge_quota, read_quotas, refuse_beyond_quota, remove_quota, write_quota
from privacy.ledger_records import (
    Charge,
    ChargeRecord,
    ChargeState,
    HolderStatement,
    Quota,
    check_amount,
    check_word,
)
from privacy.ledger_rows import find_charge, read_charges, row_of
from privacy.pseudonyms import check_pseudonyms
from privacy.schema import accounts, charges

_account, _charge = accounts.c, charges.c
# One lock of PostgreSQL for whoever continues the chain; any constant that nobody else uses will do.
_CHAIN_LOCK: Final = 0x66_65_64_72_6C_65_64


def utc_now() -> datetime:
    """Return the time of the system clock in UTC."""
    return datetime.now(UTC)


class Ledger:
    """Accounts of spent privacy, one per holder and shopper, shared by any number of processes."""

    def __init__(
        self,
        engine: Engine,
        anchor: Anchor,
        chain: Chain,
        clock: Callable[[], datetime] = utc_now,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        """Use a ledger that was checked against what its keyring remembers; `Ledger.open` does that."""
        self._engine = engine
        self._anchor = anchor
        self._chain = chain
        self._quotas = QuotaState(anchor, chain.start.ledger)
        self._clock = clock
        self._failpoint = failpoint

    @classmethod
    def open(
        cls,
        url: str | Path,
        keyring: Keyring,
        *,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
        failpoint: Failpoint = no_failpoint,
    ) -> Self:
        """Open the ledger at a database URL or SQLite path with the keyring that goes with it.

        A new one is made if absent and `create`, but only for a keyring that remembers none. The whole
        ledger is checked, and one that is ahead of the keyring (a crash came between both) is remembered.

        Raises `LedgerRolledBack` if it is older than the keyring remembers or gone, `ForeignLedger` if another
        keyring made it, `LedgerDamaged`, `DatabaseMissing`, `NewerSchema`, or `DatabaseError` with the reason.
        """
        engine, identity = open_ledger(url, keyring.anchor, create=create)
        chain = Chain(keyring.anchor, identity)
        catch_up(engine, keyring.anchor, chain, QuotaState(keyring.anchor, identity))
        return cls(engine, keyring.anchor, chain, clock, failpoint)

    def reserve(self, charge: Charge, subjects: Sequence[str], cap_mu2: float) -> bool:
        """Charge `charge.mu2` to every subject (the holder's pseudonyms), durably, or to none of them.

        Returns True if this call spent the budget, and False if the very same charge and cohort were there
        already, so that a repetition costs nothing; whatever it paid for may then have left before. Raises
        `BudgetExceeded` if any subject would pass `cap_mu2`, `QuotaExceeded` if the holder would pass its quota,
        `LedgerConflict` if the release is known with other parameters, `InvalidCharge` for a cap that is
        negative or not finite, `LedgerRolledBack` if the ledger went back since it was opened.
        """
        check_amount("the budget cap", cap_mu2)
        cohort = _checked_cohort(subjects)
        digest = hashlib.sha256("\n".join(cohort).encode()).hexdigest()
        remembered, known_quotas = self._anchor.remembered(), self._quotas.remembered()
        with writing(self._engine) as connection:
            _one_at_a_time(connection)
            self._chain.refuse_older(connection, remembered)
            self._quotas.checked(connection, known_quotas)
            known = find_charge(connection, charge, digest)
            if known is None:
                charge_quota(connection, charge)
                charge_accounts(connection, charge, cohort, cap_mu2)
                self._failpoint("charge: accounts charged")
                newest = self._chain.append(connection, row_of(charge, len(cohort), digest, self._now()))
            else:
                newest = self._chain.at(known.position, known.head)
            self._failpoint("charge: before commit")
        self._failpoint("charge: after commit")
        self._anchor.remember(newest)
        self._failpoint("charge: remembered")
        return known is None

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
            connection.execute(charges.update().where(*this, reserved).values(committed))

    def spent(self, holder: str, subjects: Sequence[str] | None = None) -> float:
        """Return the highest mu^2 that any of `subjects` (default: all) has spent with `holder`, or 0.0."""
        query = select(func.max(_account.spent_mu2)).where(*accounts_of(self._engine, holder, subjects))
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one() or 0.0

    def spent_by_subject(self, holder: str, subjects: Sequence[str] | None = None) -> dict[str, float]:
        """Return the mu^2 spent by each subject that has an account with this holder."""
        query = select(_account.subject, _account.spent_mu2).where(
            *accounts_of(self._engine, holder, subjects)
        )
        with reading(self._engine) as connection:
            return dict(list(connection.execute(query)))

    def set_quota(self, holder: str, limit_mu2: float) -> Quota:
        """Bound what all releases of `holder` may cost together, what they have cost so far included.

        Raises `InvalidCharge` for a limit that is negative or not finite, or a holder's name that none can have.
        """
        check_word("the holder of a quota", holder)
        check_amount("a quota", limit_mu2)
        known = self._quotas.remembered()
        with writing(self._engine) as connection:
            _one_at_a_time(connection)
            self._quotas.checked(connection, known)
            write_quota(connection, holder, limit_mu2)
            quota, newest = read_quotas(connection)[holder], self._quotas.note_change(connection)
        self._quotas.remember(newest)
        return quota

    def check_quotas(self, holders: Iterable[str], mu2: float) -> None:
        """Raise `QuotaExceeded` if a holder's quota would not pay for `mu2` more; nothing is charged."""
        with reading(self._engine) as connection:
            refuse_beyond_quota(connection, holders, mu2)

    def remove_quota(self, holder: str) -> bool:
        """Leave only the shoppers' cap to bound the releases of `holder`; return whether it had a quota."""
        known = self._quotas.remembered()
        with writing(self._engine) as connection:
            _one_at_a_time(connection)
            newest = self._quotas.checked(connection, known)
            removed = remove_quota(connection, holder)
            if removed:
                newest = self._quotas.note_change(connection)
        self._quotas.remember(newest)
        return removed

    def verify(self) -> int:
        """Check the whole chain of charges, and that accounts and quotas add up to it; return its length.

        Raises `LedgerDamaged` naming the position or the holder, `LedgerRolledBack` as `open` does.
        """
        newest, _ = checked(self._engine, self._anchor, self._chain, self._quotas)
        return newest.releases

    def charges(self, holder: str | None = None) -> list[ChargeRecord]:
        """Return the charges of one holder (default: of all), in the order of their reservation."""
        with reading(self._engine) as connection:
            return read_charges(connection, holder)

    def statement(self, holder: str | None = None) -> tuple[HolderStatement, ...]:
        """Return the state of one holder's account (default: of every holder's), sorted by holder."""
        totals = select(_account.holder, func.count(), func.max(_account.spent_mu2)).group_by(_account.holder)
        by_holder: dict[str, list[ChargeRecord]] = {}
        with reading(self._engine) as connection:
            totals_of = {name: (count, highest) for name, count, highest in connection.execute(totals)}
            granted = read_quotas(connection)
            for record in read_charges(connection, holder):
                by_holder.setdefault(record.charge.holder, []).append(record)
        names = sorted({*by_holder, *granted}) if holder is None else [holder]
        return tuple(
            HolderStatement(
                holder=name,
                accounts=totals_of.get(name, (0, 0.0))[0],
                highest_mu2=totals_of.get(name, (0, 0.0))[1],
                charges=tuple(by_holder.get(name, ())),
                quota=granted.get(name),
            )
            for name in names
        )

    @property
    def identity(self) -> str:
        """The random id that this ledger was given when it was made."""
        return self._chain.start.ledger

    def close(self) -> None:
        """Give the database connections back."""
        self._engine.dispose()

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")


def _one_at_a_time(connection: Connection) -> None:
    # SQLite has one writer anyway.
    if connection.engine.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_CHAIN_LOCK)))


def _checked_cohort(subjects: Sequence[str]) -> list[str]:
    check_pseudonyms(subjects)
    cohort = sorted(set(subjects))
    if len(cohort) < len(subjects):
        raise LedgerError(
            f"{len(subjects) - len(cohort)} of {len(subjects)} subjects are repeated; name each shopper once"
        )
    return cohort
