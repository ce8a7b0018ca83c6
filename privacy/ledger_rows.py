"""The rows of the table `charges`: how a charge is written, read, and found again."""

from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, select

from privacy.errors import LedgerConflict
from privacy.ledger_records import Charge, ChargeRecord, ChargeState
from privacy.schema import charges

_charge = charges.c


def row_of(charge: Charge, subjects: int, cohort_digest: str, now: str) -> dict[str, Any]:
    """Return what a charge reserved at `now` for `subjects` shoppers puts into its row, but its place."""
    return {
        **asdict(charge),
        "subjects": subjects,
        "cohort_digest": cohort_digest,
        "state": ChargeState.RESERVED,
        "reserved_at": now,
    }


def record_of(row: Row[Any]) -> ChargeRecord:
    """Return the record that a row of `charges` holds."""
    values = row._mapping
    return ChargeRecord(
        position=values["position"],
        charge=Charge(**{field.name: values[field.name] for field in fields(Charge)}),
        subjects=values["subjects"],
        cohort_digest=values["cohort_digest"],
        state=ChargeState(values["state"]),
        reserved_at=values["reserved_at"],
        committed_at=values["committed_at"],
    )


def read_charges(connection: Connection, holder: str | None) -> list[ChargeRecord]:
    """Return the charges of one holder (None: of all) in the order of their reservation."""
    query = select(charges).order_by(_charge.position)
    if holder is not None:
        query = query.where(_charge.holder == holder)
    return [record_of(row) for row in connection.execute(query)]


def find_charge(connection: Connection, charge: Charge, cohort_digest: str) -> Row[Any] | None:
    """Return the row of a charge that is in the ledger already, or None.

    Raises `LedgerConflict` if its release is there with other parameters or another cohort.
    """
    this = (_charge.release_id == charge.release_id, _charge.holder == charge.holder)
    row = connection.execute(select(charges).where(*this)).one_or_none()
    if row is None:
        return None
    known = record_of(row)
    if known.charge == charge and known.cohort_digest == cohort_digest:
        return row
    what = "another cohort" if known.charge == charge else "other parameters"
    raise LedgerConflict(
        f"release {charge.release_id!r} of holder {charge.holder!r} is in the ledger with {what}; "
        "a different release needs a new release id"
    )
