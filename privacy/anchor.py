"""What a keyring remembers of its ledger, so that an older copy of the ledger is known when it comes back.

The ledger chains its charges with a keyed hash; the keyring's own database keeps the newest link. A budget that is
spent is so bound to the keys that its pseudonyms come from: whoever puts an old ledger back has to put the old
keyring back too, and whoever starts an empty ledger has to start with new keys. One keyring goes with one ledger.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, select

from privacy.cipher import KEY_BYTES, aad_of
from privacy.database import reading, writing
from privacy.errors import ForeignLedger, KeyringError, LedgerRolledBack
from privacy.schema import ledger_heads

_LABEL: Final = "fedrank/ledger"
_QUOTAS: Final = "/quotas"
"""After the id of a ledger: the row is about changes of its quotas, not about its releases."""


@dataclass(frozen=True, kw_only=True)
class LedgerHead:
    """A state of a ledger: its random id, how many releases it holds, and the last link of their chain."""

    ledger: str
    releases: int
    head: bytes


class Anchor:
    """The place in a keyring's database where the newest state of the ledger is kept."""

    __slots__ = ("_engine", "_key", "_series")

    def __init__(self, engine: Engine, key: bytes, series: str = "") -> None:
        """Use the keyring's database, whose tables are there already, and its ledger key of 32 bytes."""
        if len(key) != KEY_BYTES:
            raise KeyringError(f"a ledger key has {len(key)} bytes; it needs {KEY_BYTES}")
        self._engine = engine
        self._key = key
        self._series = series

    @property
    def of_quotas(self) -> "Anchor":
        """The place where the newest state of the ledger's quotas is kept; its `releases` are changes of them."""
        return Anchor(self._engine, self._key, _QUOTAS)

    def mac(self, *parts: str | int | bytes) -> bytes:
        """Return HMAC-SHA256 of the parts, each with its length in front, under the ledger key."""
        return hmac.digest(self._key, aad_of(_LABEL, *parts), "sha256")

    def remembered(self) -> LedgerHead | None:
        """Return the newest state of the ledger that was seen, or None if none was ever charged."""
        with reading(self._engine) as connection:
            return self._remembered(connection)

    def remember(self, newest: LedgerHead) -> None:
        """Keep a state of the ledger durably, unless a newer one is kept already; a repetition changes nothing.

        Raises `ForeignLedger` if another ledger is remembered, `LedgerRolledBack` if another state of the same
        length is: two copies of one ledger were charged apart from each other.
        """
        if _is_kept(self.remembered(), newest):
            return
        with writing(self._engine) as connection:
            known = self._remembered(connection)
            if _is_kept(known, newest):
                return
            row = {"releases": newest.releases, "head": newest.head}
            if known is None:
                connection.execute(ledger_heads.insert().values(ledger=newest.ledger + self._series, **row))
            else:
                this = ledger_heads.c.ledger == newest.ledger + self._series
                connection.execute(ledger_heads.update().where(this).values(row))

    def __repr__(self) -> str:
        """Show neither the key nor a head."""
        return "Anchor()"

    def _remembered(self, connection: Connection) -> LedgerHead | None:
        of_quotas = ledger_heads.c.ledger.endswith(_QUOTAS)
        query = select(ledger_heads).where(of_quotas if self._series else ~of_quotas)
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return LedgerHead(ledger=row.ledger.removesuffix(self._series), releases=row.releases, head=row.head)


def _is_kept(known: LedgerHead | None, newest: LedgerHead) -> bool:
    """Return whether what is known covers `newest`; raise if both cannot belong to one history."""
    if known is None:
        return False
    if known.ledger != newest.ledger:
        raise ForeignLedger(
            f"this keyring goes with ledger {known.ledger[:8]} ({known.releases} releases), not with ledger "
            f"{newest.ledger[:8]}; give each ledger a keyring of its own"
        )
    if known.releases == newest.releases and known.head != newest.head:
        raise LedgerRolledBack(
            f"release {newest.releases} of ledger {newest.ledger[:8]} is not the one that the keyring remembers: two "
            "copies of the ledger were charged apart from each other; stop both and restore the newest backup"
        )
    return known.releases >= newest.releases
