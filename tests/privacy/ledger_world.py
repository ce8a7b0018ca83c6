"""What the tests of the ledger share: charges, shoppers, and a backup of a ledger's rows on either database."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

from privacy.database import open_engine, prepare, reading, writing
from privacy.failpoints import Failpoint
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_records import Charge
from privacy.schema import accounts, charges, meta, quotas

TABLES = (meta, accounts, charges, quotas)
Backup = dict[str, list[dict[str, Any]]]


def charge(release_id: str = "r1", holder: str = "devices", mu2: float = 0.25, round: int = 1) -> Charge:
    """A release that costs `mu2`."""
    return Charge(
        release_id=release_id,
        holder=holder,
        stage="gradient",
        round=round,
        noise_multiplier=2.0,
        clipping_norm=1.5,
        mu2=mu2,
    )


def subjects(count: int, first: int = 0) -> list[str]:
    """Pseudonyms of `count` shoppers."""
    return [f"{number:032x}" for number in range(first, first + count)]


def die_at(wanted: str) -> Failpoint:
    """A failpoint that ends this process with kill -9 at the point `wanted`."""

    def failpoint(name: str) -> None:
        if name == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


def opened(url: str, keys: Path, **options: Any) -> Ledger:
    """Open the ledger with the keyring in a folder."""
    return Ledger.open(url, Keyring.open(keys), **options)


def backup_of(url: str) -> Backup:
    """A dump of all rows of a ledger."""
    engine = open_engine(url)
    with reading(engine) as connection:
        rows = {
            table.name: [dict(row._mapping) for row in connection.execute(table.select())] for table in TABLES
        }
    engine.dispose()
    return rows


def restore(url: str, backup: Backup) -> None:
    """Put a dump in the place of what the ledger holds; the tables are made if they are not there."""
    engine = open_engine(url)
    prepare(engine)
    with writing(engine) as connection:
        for table in TABLES:
            connection.execute(table.delete())
            if backup[table.name]:
                connection.execute(table.insert(), backup[table.name])
    engine.dispose()


def is_refused(url: str, keys: Path, refusal: type[Exception]) -> bool:
    """Whether opening the ledger is refused in this way."""
    with closing(Keyring.open(keys)) as keyring:
        try:
            Ledger.open(url, keyring).close()
        except refusal:
            return True
    return False
