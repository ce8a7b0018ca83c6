"""Where a plan looks a run's budget up, without writing anything there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from evaluation.settings import ExperimentSettings
from privacy.database import open_engine, prepare
from privacy.keyring import DATABASE_NAME, Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import keys_folder, ledger_file
from privacy.secret_files import LEDGER_FILE
from simulation.federated import Place
from simulation.population import place_keys


def place_of_plan(settings: ExperimentSettings, folder: Path) -> Place:
    """Return where a run looks its budget up: its ledger if there is one, and its keys without a way to add any.

    Raises:
        LostKeys: as the run itself would.
    """
    own = settings.out / "keys"
    keys = folder / "linked" / "keys"
    keys.parent.mkdir()
    begun = _is_begun(settings.ledger_url)
    if own.exists():
        place_keys(settings.out, settings.ledger_url)
        keys = own
    elif begun:
        place_keys(keys.parent, settings.ledger_url)
    _borrow(keys, folder / "keys")
    continued = begun and (keys / LEDGER_FILE).exists()
    return Place(
        name=settings.out.name,
        registry=folder / "registry",
        ledger=settings.ledger_url if begun else str(folder / "ledger.db"),
        checkpoints=folder / "rounds",
        ledger_keys=str(keys if continued else folder / "keys"),
    )


@contextmanager
def ledger_of_plan(place: Place) -> Iterator[Ledger]:
    """Open the ledger of a place for as long as the block runs, after which no file of it stays open.

    Raises:
        LedgerError: as the run itself would.
    """
    with (
        closing(Keyring.open(Path(place.ledger_keys))) as keyring,
        closing(Ledger.open(place.ledger, keyring)) as ledger,
    ):
        yield ledger


def _is_begun(ledger: str) -> bool:
    """Return whether a run would continue a ledger, or be refused because its keyring knows that one is gone."""
    file = ledger_file(ledger)
    if file is None or file.exists():
        return True
    keys = keys_folder(ledger)
    if not (keys / LEDGER_FILE).exists():
        return False
    with closing(Keyring.open(keys, create=False)) as keyring:
        return keyring.anchor.remembered() is not None


def _borrow(keys: Path, folder: Path) -> None:
    """Make a keyring that gives the same pseudonyms as another, and keeps keys of shoppers for itself."""
    folder.mkdir(mode=0o700)
    for file in keys.glob("*.*"):
        if not file.name.startswith(DATABASE_NAME):
            (folder / file.name).symlink_to(file.resolve())
    if keys.exists():
        engine = open_engine(folder / DATABASE_NAME)
        prepare(engine)
        engine.dispose()
