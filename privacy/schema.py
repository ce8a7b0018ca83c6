"""The one schema of every database that fedrank opens; each uses some of the tables and leaves the others empty.

Three kinds of database have it: the event store of participants, the budget ledger, and the keyring's own small
one. `privacy/migrations` makes the tables and takes them from one revision to the next; a test compares both.
What is not ciphertext or a keyed hash is listed in docs/threat-model.md under "Readable at rest".
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

REVISIONS: Final = ("0001", "0002")
"""All revisions that this version of fedrank knows, oldest first; the last one is in use."""

REVISION_TABLE: Final = "fedrank_revision"
"""The table that names a database's revision; its own name lets another application's migrations lie beside it."""

RECORD_VERSION: Final = 1
"""The version of sealed records, bound by their associated data; a migration of tables does not change it."""

metadata = MetaData()


def _key(name: str, kind: Any = String) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


def _value(name: str, kind: Any, *, nullable: bool = False) -> Column[Any]:
    return Column(name, kind, nullable=nullable)


meta = Table("meta", metadata, _key("part"), _key("name"), _value("value", Text))
"""Facts about the database itself, such as the ledger's random id: ("ledger", "id")."""

STORE: Final = "store"
"""The part of `meta` that says which event store this is, or, in a keyring, which one each holder's keys are for."""

data_keys = Table(
    "data_keys",
    metadata,
    _key("holder"),
    _key("shopper"),
    _key("key_id", BigInteger),
    _value("generation", Integer),
    _value("wrapping_id", BigInteger),
    _value("wrapped", LargeBinary),
)
"""Keyring: one row per data key of a shopper, wrapped by the holder's wrapping secret `wrapping_id`.

It never lies in the database of the events, so that no copy of that one holds a key. With SQLite's rowid: without it,
wrapped keys would lie in an index tree, whose balancing leaves copies that `secure_delete` does not overwrite.
"""

ledger_heads = Table(
    "ledger_heads", metadata, _key("ledger"), _value("releases", BigInteger), _value("head", LargeBinary)
)
"""Keyring: the newest state of each ledger that was seen, by which an older copy of it is known."""

holders = Table("holders", metadata, _key("holder"), _value("key_check", LargeBinary))
"""Store: one row per holder; the check shows whether the right keyring was brought."""

shoppers = Table(
    "shoppers",
    metadata,
    _key("holder"),
    _key("shopper"),
    _value("key_id", BigInteger),
    _value("next_number", BigInteger),
    sqlite_with_rowid=False,
)
"""Store: one row per shopper (pseudonym): the key that new rows use, and the number that the next row will have."""

events = Table(
    "events",
    metadata,
    _key("holder"),
    _key("shopper"),
    _key("number", BigInteger),
    _value("sealed", LargeBinary),
)
"""Store: one row per envelope, 1 to 64 events of one shopper sealed together under a data key of the shopper."""

event_ids = Table(
    "event_ids",
    metadata,
    _key("holder"),
    _key("shopper"),
    _key("blind", LargeBinary),
    sqlite_with_rowid=False,
)
"""Store: one row per stored event that came with an id: its blind index, by which a repetition is known."""

consents = Table(
    "consents",
    metadata,
    _key("holder"),
    _key("shopper"),
    _value("sealed", LargeBinary),
    sqlite_with_rowid=False,
)
"""Store: one row per shopper with a recorded decision: what was granted and withdrawn, sealed. Revision 0002."""

accounts = Table(
    "accounts",
    metadata,
    _key("holder"),
    _key("subject"),
    _value("spent_mu2", Float(53)),
    sqlite_with_rowid=False,
)
"""Ledger: one row per holder and shopper (under the holder's pseudonym): the mu^2 spent over all releases."""

charges = Table(
    "charges",
    metadata,
    _key("release_id"),
    _key("holder"),
    _value("position", BigInteger),
    _value("stage", String),
    _value("round", BigInteger),
    _value("noise_multiplier", Float(53)),
    _value("clipping_norm", Float(53)),
    _value("mu2", Float(53)),
    _value("subjects", BigInteger),
    _value("cohort_digest", String),
    _value("state", String),
    _value("reserved_at", String),
    _value("committed_at", String, nullable=True),
    _value("head", LargeBinary),
    UniqueConstraint("position", name="uq_charges_position"),
)
"""Ledger: one row per release and holder. The digest of the cohort tells a repetition from another cohort;
`head` continues a keyed hash chain over all rows in the order of `position` (1, 2, 3, ...).
"""

quotas = Table(
    "quotas", metadata, _key("holder"), _value("limit_mu2", Float(53)), _value("spent_mu2", Float(53))
)
"""Ledger: one row per holder with a quota over all its releases. Revision 0002."""

publications = Table(
    "publications",
    metadata,
    _key("series"),
    _key("starts", BigInteger),
    _value("ends", BigInteger),
    sqlite_with_rowid=False,
)
"""Ledger: the windows [starts, ends) of time for which a series was published; they never overlap. Revision 0002."""
