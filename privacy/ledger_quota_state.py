"""The state of all quotas: how often they were changed, and a keyed hash of what they are now.

The ledger has it beside the quotas and the keyring remembers it, so an older copy of the ledger, in which a quota
was not set yet, is known when it comes back, and so is a quota that was changed or removed in the database.
"""

from typing import Final

from sqlalchemy import Connection, delete, select

from privacy.anchor import Anchor, LedgerHead
from privacy.errors import ForeignLedger, LedgerDamaged, LedgerRolledBack
from privacy.ledger_quotas import read_quotas
from privacy.schema import meta

_ROW: Final = {"part": "ledger", "name": "quotas"}
_THIS: Final = tuple(meta.c[name] == value for name, value in _ROW.items())


class QuotaState:
    """The state of the quotas of one ledger under the key of one keyring."""

    __slots__ = ("_anchor", "_ledger")

    def __init__(self, anchor: Anchor, ledger: str) -> None:
        """Look after the quotas of the ledger with this id."""
        self._anchor = anchor.of_quotas
        self._ledger = ledger

    def remembered(self) -> LedgerHead | None:
        """Return the newest state that the keyring knows; None if no quota was ever set."""
        return self._anchor.remembered()

    def remember(self, newest: LedgerHead) -> None:
        """Let the keyring remember a state durably, after it was committed."""
        if newest.releases:
            self._anchor.remember(newest)

    def note_change(self, connection: Connection) -> LedgerHead:
        """Write the state after a change of the quotas, and return it."""
        state = self._state(connection, self._written(connection).releases + 1)
        connection.execute(delete(meta).where(*_THIS))
        connection.execute(meta.insert().values(**_ROW, value=f"{state.releases}:{state.head.hex()}"))
        return state

    def checked(self, connection: Connection, remembered: LedgerHead | None) -> LedgerHead:
        """Return the state of the quotas as they are.

        Raises `LedgerRolledBack` or `ForeignLedger` if it does not continue what the keyring remembers, and
        `LedgerDamaged` if the quotas are not those that were set.
        """
        found = self._written(connection)
        if remembered is not None:
            self._refuse_older(found, remembered)
        if found != self._state(connection, found.releases):
            raise LedgerDamaged(
                "the ledger is damaged: its quotas are not those that were set; restore the newest backup"
            )
        return found

    def _refuse_older(self, found: LedgerHead, remembered: LedgerHead) -> None:
        if found.ledger != remembered.ledger:
            raise ForeignLedger(
                f"this is ledger {found.ledger[:8]}, but its keyring knows quotas of ledger {remembered.ledger[:8]}; "
                "give the path of that ledger, or start a new federation with new keys"
            )
        if found.releases < remembered.releases:
            raise LedgerRolledBack(
                f"the quotas of the ledger were changed {found.releases} times, but the keyring remembers "
                f"{remembered.releases}: it is an older copy; restore the newest backup"
            )
        if found.releases == remembered.releases and found.head != remembered.head:
            raise LedgerRolledBack(
                f"change {found.releases} of the ledger's quotas is not the one that the keyring remembers: it was "
                "an older copy and was changed again; restore the newest backup"
            )

    def _written(self, connection: Connection) -> LedgerHead:
        value = connection.execute(select(meta.c.value).where(*_THIS)).scalar_one_or_none()
        if value is None:
            return self._head(0, [])
        changes, _, head = value.partition(":")
        try:
            return LedgerHead(ledger=self._ledger, releases=int(changes), head=bytes.fromhex(head))
        except ValueError:
            raise LedgerDamaged(
                "the ledger is damaged: the state of its quotas cannot be read; restore the newest backup"
            ) from None

    def _state(self, connection: Connection, changes: int) -> LedgerHead:
        limits = [(name, quota.limit_mu2.hex()) for name, quota in read_quotas(connection).items()]
        return self._head(changes, sorted(limits))

    def _head(self, changes: int, limits: list[tuple[str, str]]) -> LedgerHead:
        words = [word for pair in limits for word in pair]
        head = self._anchor.mac("quotas", self._ledger, changes, *words)
        return LedgerHead(ledger=self._ledger, releases=changes, head=head)
