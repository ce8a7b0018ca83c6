"""Opening a ledger together with the keyring that goes with it, or refusing to."""

import uuid
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from privacy.anchor import Anchor, LedgerHead
from privacy.database import open_engine, prepare, reading, shown, snapshot, writing
from privacy.errors import DatabaseMissing, ForeignLedger, LedgerDamaged, LedgerRolledBack
from privacy.ledger_audit import check_sums
from privacy.ledger_chain import Chain
from privacy.ledger_quota_state import QuotaState
from privacy.schema import meta

_IDENTITY: Final = {"part": "ledger", "name": "id"}


def open_ledger(place: str | Path, anchor: Anchor, *, create: bool) -> tuple[Engine, str]:
    """Return the database of a ledger and the ledger's id; made if absent, allowed, and none is remembered.

    Raises `LedgerRolledBack` if there is none and the keyring remembers one, otherwise `DatabaseMissing`.
    """
    remembered = anchor.remembered()
    create = create and remembered is None
    try:
        engine = open_engine(place, create=create)
        prepare(engine, create=create)
        return engine, _identity(engine, create=create)
    except DatabaseMissing as missing:
        if remembered is None:
            raise
        raise LedgerRolledBack(
            f"{missing}; the keyring goes with a ledger of {remembered.releases} releases, and a new one would give "
            "back what they have spent: name the right ledger or restore its newest backup, or start a new "
            "federation with a new ledger and new keys"
        ) from None


def checked(
    engine: Engine, anchor: Anchor, chain: Chain, quotas: QuotaState
) -> tuple[LedgerHead, LedgerHead]:
    """Check a whole ledger against what the keyring remembers; return the state of its charges and of its quotas.

    Nobody waits for it, and what is charged meanwhile is not in it. Raises `ForeignLedger`, `LedgerRolledBack` or
    `LedgerDamaged`.
    """
    remembered, known_quotas = anchor.remembered(), quotas.remembered()
    with snapshot(engine) as connection:
        chain.refuse_older(connection, remembered)
        newest = _verified(connection, chain, remembered)
        check_sums(connection)
        return newest, quotas.checked(connection, known_quotas)


def catch_up(engine: Engine, anchor: Anchor, chain: Chain, quotas: QuotaState) -> None:
    """Check a ledger, and let the keyring remember what came after what it knew. Raises as `checked`."""
    newest, newest_quotas = checked(engine, anchor, chain, quotas)
    if newest.releases:
        anchor.remember(newest)
    quotas.remember(newest_quotas)


def _identity(engine: Engine, *, create: bool) -> str:
    query = select(meta.c.value).where(*(meta.c[name] == value for name, value in _IDENTITY.items()))
    with reading(engine) as connection:
        found = connection.execute(query).scalar_one_or_none()
    if found is not None:
        return str(found)
    if not create:
        raise DatabaseMissing(f"{shown(engine.url)} holds no ledger; check the path or URL")
    insert = sqlite.insert if engine.name == "sqlite" else postgresql.insert
    with writing(engine) as connection:
        row = {**_IDENTITY, "value": uuid.uuid4().hex}
        connection.execute(insert(meta).values(row).on_conflict_do_nothing())
        return str(connection.execute(query).scalar_one())


def _verified(connection: Connection, chain: Chain, remembered: LedgerHead | None) -> LedgerHead:
    try:
        return chain.verified(connection)
    except LedgerDamaged as damaged:
        if remembered is not None:
            raise
        raise ForeignLedger(
            f"the keyring remembers no ledger, and this one was not written with it or is damaged ({damaged}); "
            "bring the keys that go with the ledger, or name another ledger"
        ) from None
