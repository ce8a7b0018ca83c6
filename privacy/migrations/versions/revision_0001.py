"""Revision 0001: the keyring's keys and ledger heads, the event store, and the ledger with its hash chain."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TABLES = (
    "meta",
    "data_keys",
    "ledger_heads",
    "holders",
    "shoppers",
    "events",
    "event_ids",
    "accounts",
    "charges",
)


def upgrade() -> None:
    """Make all tables of the first revision."""
    op.create_table("meta", _key("part"), _key("name"), _value("value", sa.Text()))
    _make_keyring_tables()
    _make_store_tables()
    _make_ledger_tables()


def downgrade() -> None:
    """Remove all tables."""
    for name in reversed(_TABLES):
        op.drop_table(name)


def _make_keyring_tables() -> None:
    op.create_table(
        "data_keys",
        _key("holder"),
        _key("shopper"),
        _key("key_id", sa.BigInteger()),
        _value("generation", sa.Integer()),
        _value("wrapping_id", sa.BigInteger()),
        _value("wrapped", sa.LargeBinary()),
    )
    op.create_table(
        "ledger_heads",
        _key("ledger"),
        _value("releases", sa.BigInteger()),
        _value("head", sa.LargeBinary()),
    )


def _make_store_tables() -> None:
    op.create_table("holders", _key("holder"), _value("key_check", sa.LargeBinary()))
    op.create_table(
        "shoppers",
        _key("holder"),
        _key("shopper"),
        _value("key_id", sa.BigInteger()),
        _value("next_number", sa.BigInteger()),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        _key("holder"),
        _key("shopper"),
        _key("number", sa.BigInteger()),
        _value("sealed", sa.LargeBinary()),
    )
    op.create_table(
        "event_ids",
        _key("holder"),
        _key("shopper"),
        _key("blind", sa.LargeBinary()),
        sqlite_with_rowid=False,
    )


def _make_ledger_tables() -> None:
    op.create_table(
        "accounts",
        _key("holder"),
        _key("subject"),
        _value("spent_mu2", sa.Float(53)),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "charges",
        _key("release_id"),
        _key("holder"),
        _value("position", sa.BigInteger()),
        _value("stage", sa.String()),
        _value("round", sa.BigInteger()),
        _value("noise_multiplier", sa.Float(53)),
        _value("clipping_norm", sa.Float(53)),
        _value("mu2", sa.Float(53)),
        _value("subjects", sa.BigInteger()),
        _value("cohort_digest", sa.String()),
        _value("state", sa.String()),
        _value("reserved_at", sa.String()),
        _value("committed_at", sa.String(), nullable=True),
        _value("head", sa.LargeBinary()),
        sa.UniqueConstraint("position", name="uq_charges_position"),
    )


def _key(name: str, kind: Any = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.String(), primary_key=True, autoincrement=False)


def _value(name: str, kind: Any, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable)
