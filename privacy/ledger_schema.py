"""The ledger's tables: what each shopper has spent, and what it was spent on."""

from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Float, MetaData, Row, String, Table

from privacy.database import meta_table
from privacy.ledger_records import Charge, ChargeRecord, ChargeState

PART: Final = "ledger"
SCHEMA_VERSION: Final = 1

metadata = MetaData()
meta = meta_table(metadata)

accounts = Table(
    "accounts",
    metadata,
    Column("holder", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("spent_mu2", Float(53), nullable=False),
    sqlite_with_rowid=False,
)
"""One row per holder and shopper (under the holder's pseudonym): the mu^2 spent over all releases."""

charges = Table(
    "charges",
    metadata,
    Column("release_id", String, primary_key=True),
    Column("holder", String, primary_key=True),
    Column("stage", String, nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("noise_multiplier", Float(53), nullable=False),
    Column("clipping_norm", Float(53), nullable=False),
    Column("mu2", Float(53), nullable=False),
    Column("subjects", BigInteger, nullable=False),
    Column("cohort_digest", String, nullable=False),
    Column("state", String, nullable=False),
    Column("reserved_at", String, nullable=False),
    Column("committed_at", String),
)
"""One row per release and holder; the digest of the sorted cohort tells a repetition from another cohort."""


def row_of(charge: Charge, subjects: int, cohort_digest: str, now: str) -> dict[str, Any]:
    """Return the row of a charge that is being reserved at `now` for `subjects` shoppers."""
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
        charge=Charge(**{field.name: values[field.name] for field in fields(Charge)}),
        subjects=values["subjects"],
        cohort_digest=values["cohort_digest"],
        state=ChargeState(values["state"]),
        reserved_at=values["reserved_at"],
        committed_at=values["committed_at"],
    )
