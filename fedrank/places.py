"""Where things lie, said in one way by all commands: a run folder, or store, keys and ledger one by one.

The options of this file stand in the signature of a command, and `places` takes what they give. A password in
a database URL shows in the list of processes; PostgreSQL also takes it from PGPASSWORD or a password file.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from client.store import EventStore
    from privacy.keyring import Keyring

RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder of `fedrank simulate`: store/events.db, keys/ and ledger.db."),
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="PATH_OR_URL", help="Event store: an SQLite file or a database URL."),
]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Folder of the keyring.")]
LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", metavar="PATH_OR_URL", help="Budget ledger: an SQLite file or a database URL."),
]
HolderOption = Annotated[
    str | None, typer.Option("--holder", help="Only this holder: a merchant id, or devices.")
]


@dataclass(frozen=True, kw_only=True)
class Places:
    """What a command was told about where things lie; a part is looked for when it is asked for.

    Attributes:
        run: the run folder, if one was named; a part that was named beside it comes first.
    """

    run: Path | None
    named_store: str | None
    named_keys: Path | None
    named_ledger: str | None

    @property
    def store(self) -> str:
        """Path or URL of the event store; `typer.BadParameter` if none was named or its file is not there."""
        return _database("--store", self.named_store, self.run, "store/events.db")

    @property
    def ledger(self) -> str:
        """Path or URL of the ledger; `typer.BadParameter` if none was named or its file is not there."""
        return _database("--ledger", self.named_ledger, self.run, "ledger.db")

    @property
    def ledger_if_any(self) -> str | None:
        """Path or URL of the ledger, or None where none was named and the run folder has none."""
        in_run = self.run is not None and (self.run / "ledger.db").is_file()
        return self.ledger if self.named_ledger is not None or in_run else None

    @property
    def keys(self) -> Path:
        """Folder of the keyring; `typer.BadParameter` if none was named or it is not there."""
        folder = self.run / "keys" if self.run is not None and self.named_keys is None else self.named_keys
        if folder is None:
            raise typer.BadParameter("say where the keyring lies: --run RUN_FOLDER, or --keys FOLDER")
        if not folder.is_dir():
            raise typer.BadParameter(f"there is no keyring folder at {folder}; check the path")
        return folder

    def keyring(self) -> AbstractContextManager[Keyring]:
        """Open the keyring, which makes no keys for unknown holders, for a `with` block. Raises `KeyringError`."""
        from contextlib import closing

        from privacy.keyring import Keyring

        return closing(Keyring.open(self.keys, create=False))

    def event_store(self, keyring: Keyring, holder: str) -> EventStore:
        """Open the event store of one holder. Raises `StoreUnavailable` or `WrongKeys`."""
        from client.store import EventStore

        return EventStore.open(self.store, keyring, holder, create=False)

    def reported(self, section: str, name: str) -> Any:
        """Return a value of the run's report.json, or None where there is no run or its report does not name it."""
        if self.run is None:
            return None
        try:
            return json.loads((self.run / "report.json").read_bytes())[section][name]
        except (OSError, ValueError, KeyError, TypeError):
            return None


def places(
    run: Path | None = None, store: str | None = None, keys: Path | None = None, ledger: str | None = None
) -> Places:
    """Return what the options say; `typer.BadParameter` if nothing was said or the run folder is not there."""
    if run is None and store is None and keys is None and ledger is None:
        raise typer.BadParameter(
            "say where the data lie: --run RUN_FOLDER, or --store PATH_OR_URL with --keys FOLDER"
        )
    if run is not None and not run.is_dir():
        raise typer.BadParameter(
            f"there is no run folder {run}; give the one that `fedrank simulate --out` wrote",
            param_hint="--run",
        )
    return Places(run=run, named_store=store, named_keys=keys, named_ledger=ledger)


def holders_of(keyring: Keyring, wanted: str | None) -> tuple[str, ...]:
    """Return the holders that a command is about: all of the keyring, or the one that was named."""
    known = keyring.holders()
    if wanted is None:
        return known
    if wanted not in known:
        raise typer.BadParameter(
            f"the keyring has no keys of holder {wanted!r}; it knows {', '.join(known) or 'nobody'}",
            param_hint="--holder",
        )
    return (wanted,)


def _database(option: str, named: str | None, run: Path | None, in_run: str) -> str:
    place = named if run is None or named is not None else str(run / in_run)
    if place is None:
        raise typer.BadParameter(
            f"say where it lies: --run RUN_FOLDER, or {option} PATH_OR_URL", param_hint=option
        )
    if "://" not in place and not Path(place).is_file():
        raise typer.BadParameter(f"there is no database file {place}; check the path", param_hint=option)
    return place
