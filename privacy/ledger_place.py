"""Which keyring goes with which ledger: the folder `keys` beside it, unless another is named."""

from pathlib import Path
from typing import Final

from privacy.database import database_url, shown
from privacy.errors import LedgerError
from privacy.failpoints import passed
from privacy.keyring import Keyring
from privacy.ledger import Ledger

_KEYS: Final = "keys"


def ledger_file(ledger: str | Path) -> Path | None:
    """Return the SQLite file of a ledger, or None for one on a database server."""
    url = database_url(ledger)
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def keys_folder(ledger: str | Path, named: str | Path = "") -> Path:
    """Return the folder of the keyring that goes with a ledger: the one named, or `keys` beside its SQLite file.

    Raises `LedgerError` for a ledger on a database server without a named folder.
    """
    if named:
        return Path(named)
    file = ledger_file(ledger)
    if file is None:
        raise LedgerError(
            f"the ledger {shown(database_url(ledger))} lies on a server, and nothing says which keyring goes with "
            "it; name the folder of its keys"
        )
    return file.parent / _KEYS


def ledger_at(ledger: str | Path, keys: str | Path = "", *, create: bool = True) -> Ledger:
    """Open a ledger with the keyring that goes with it, for the life of the process.

    Raises `KeyringError` and whatever `Ledger.open` raises.
    """
    keyring = Keyring.open(keys_folder(ledger, keys), create)
    return Ledger.open(ledger, keyring, create=create, failpoint=passed)
