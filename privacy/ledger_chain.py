"""The chain over a ledger's charges: each row's `head` is a keyed hash of the head before it and of its own charge.

No row can be changed, removed, put in or reordered without the ledger key and stay unnoticed, and the last head
stands for the whole ledger: the keyring remembers it (`privacy.anchor`). Whether a release was completed may
change later and is not in the chain.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select

from privacy.anchor import Anchor, LedgerHead
from privacy.errors import ForeignLedger, LedgerDamaged, LedgerRolledBack
from privacy.schema import charges

_charge = charges.c
_WORDS: Final = ("release_id", "holder", "stage", "cohort_digest", "reserved_at")
_COUNTS: Final = ("round", "subjects")
_AMOUNTS: Final = ("noise_multiplier", "clipping_norm", "mu2")
_AT_ONCE: Final = 1_000
"""How many rows are in memory while a chain is verified."""


class Chain:
    """The chain of one ledger under the key of one keyring."""

    __slots__ = ("_anchor", "start")

    def __init__(self, anchor: Anchor, ledger: str) -> None:
        """Begin at the ledger's random id, so that no two ledgers share a link."""
        self._anchor = anchor
        self.start = LedgerHead(ledger=ledger, releases=0, head=anchor.mac("start", ledger))

    def append(self, connection: Connection, row: Mapping[str, Any]) -> LedgerHead:
        """Insert a charge after the last one and return the state with it."""
        following = self.following(self.newest(connection), row)
        place = {"position": following.releases, "head": following.head}
        connection.execute(charges.insert().values({**row, **place}))
        return following

    def following(self, last: LedgerHead, row: Mapping[str, Any] | RowMapping) -> LedgerHead:
        """Return the state after the charge in `row` was added to the state `last`."""
        position = last.releases + 1
        words = [str(row[name]) for name in _WORDS]
        counts = [int(row[name]) for name in _COUNTS]
        amounts = [float(row[name]).hex() for name in _AMOUNTS]
        head = self._anchor.mac("charge", last.head, position, *words, *counts, *amounts)
        return LedgerHead(ledger=last.ledger, releases=position, head=head)

    def newest(self, connection: Connection) -> LedgerHead:
        """Return the state that the last row names, unverified."""
        query = select(_charge.position, _charge.head).order_by(_charge.position.desc()).limit(1)
        row = connection.execute(query).one_or_none()
        return self.start if row is None else self.at(row.position, row.head)

    def at(self, position: int, head: bytes) -> LedgerHead:
        """Return the state of this ledger whose last row has this position and head."""
        return LedgerHead(ledger=self.start.ledger, releases=position, head=head)

    def refuse_older(self, connection: Connection, remembered: LedgerHead | None) -> None:
        """Raise `ForeignLedger` or `LedgerRolledBack` unless the ledger continues what the keyring remembers."""
        if remembered is None:
            return
        if remembered.ledger != self.start.ledger:
            raise ForeignLedger(
                f"this is ledger {self.start.ledger[:8]}, but its keyring goes with ledger {remembered.ledger[:8]} "
                f"({remembered.releases} releases): spent budget would start again at nothing; give the path of "
                "that ledger, or start a new federation with new keys"
            )
        there = connection.execute(select(_charge.head).where(_charge.position == remembered.releases))
        if there.scalar_one_or_none() != remembered.head:
            raise LedgerRolledBack(_older(self.newest(connection).releases, remembered.releases))

    def verified(self, connection: Connection) -> LedgerHead:
        """Check every charge, and return the newest state.

        Raises `LedgerDamaged` naming the first position that does not continue the chain.
        """
        last = self.start
        query = select(charges).order_by(_charge.position)
        for row in connection.execute(query, execution_options={"yield_per": _AT_ONCE}):
            following = self.following(last, row._mapping)
            if row.position != following.releases:
                raise LedgerDamaged(_damaged(following.releases, "is missing"))
            if row.head != following.head:
                raise LedgerDamaged(_damaged(row.position, "was changed, or chained under another key"))
            last = following
        return last


def _older(found: int, remembered: int) -> str:
    what = (
        f"holds {found} releases, but the keyring remembers {remembered}: it is an older copy"
        if found < remembered
        else f"has another release at position {remembered} than the keyring remembers: it was an older copy "
        "and was charged again, or a row was changed"
    )
    return (
        f"the ledger {what}, which would give back spent budget; restore the newest backup, or start a new "
        "federation with a new ledger and new keys"
    )


def _damaged(position: int, what: str) -> str:
    return (
        f"the ledger is damaged: the charge at position {position} {what}; nothing was charged; "
        "restore the newest backup"
    )
