"""Envelope encryption of keys: key-encryption key -> secrets of a holder -> data keys of its shoppers.

A keyring is a folder of mode 0700: `kms.key` says where the key-encryption key is, a file per holder has its
wrapped secrets, `ledger.json` the secret that binds the ledger, and `keys.db` the wrapped data keys. Several
processes may use one keyring at once, also while it is rotated.
"""

import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Engine, Select, select

from privacy.anchor import Anchor
from privacy.cipher import sub_key
from privacy.data_keys import DataKeys
from privacy.database import open_engine, opened, prepare, reading
from privacy.errors import KeyringError
from privacy.holder_keys import HolderKeys
from privacy.key_files import locked, open_folder
from privacy.key_wrapping import WrappingKeys
from privacy.kms import KEY_FILE_NAME, Kms, Unlock, unlock_from
from privacy.kms_opening import create_kms, open_kms
from privacy.schema import data_keys, ledger_heads, meta
from privacy.secret_files import HOLDER_FILES, LEDGER_FILE, SecretFile, Secrets, holders_in

DATABASE_NAME: Final = "keys.db"
FILES_LOCK: Final = ".files.lock"
"""Held for the moment in which a file of secrets is made or replaced."""

_LONGEST_HOLDER_ID: Final = 200
_FIRST_WRAPPING: Final = 1


class Keyring:
    """The keys of all holders in one folder."""

    def __init__(
        self, folder: Path, kms: Kms, *, create: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Use a keyring folder that is there, with its key-management service; `Keyring.open` finds both.

        `create` allows keys for holders not seen before; `clock` measures how long plain keys stay in memory.
        """
        self.folder, self.kms = folder, kms
        self._create, self._clock = create, clock
        self._holders: dict[str, HolderKeys] = {}

    @classmethod
    def open(
        cls,
        path: Path,
        create: bool = True,
        *,
        unlock: Unlock | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Open the keyring folder `path`, making it if absent and allowed.

        `unlock` says how the key-encryption key is opened (default: by the variables of the environment). Raises
        `KeyringError` if anyone but the owner could read or replace a key, or if a file is damaged or missing (a new
        one could never open what there is); `WrongPassphrase` and `KmsUnavailable` are kinds of it.
        """
        open_folder(path, create=create)
        unlock = unlock_from(os.environ) if unlock is None else unlock
        if create and _is_fresh(path):
            # The database comes first: where there is a key-encryption key, it has been there.
            with opened(path / DATABASE_NAME, create=True) as engine:
                prepare(engine)
                _refuse_remains(engine, path)
            return cls(path, create_kms(path, unlock), clock=clock)
        return cls(path, open_kms(path, unlock), create=create, clock=clock)

    def holder(self, holder_id: str) -> HolderKeys:
        """Return the keys of a holder; made by the first call for it, if this keyring may create keys."""
        if holder_id not in self._holders:
            self._holders[holder_id] = self._load(holder_id)
        return self._holders[holder_id]

    def holders(self) -> tuple[str, ...]:
        """Return the names of all holders with keys here, sorted."""
        return holders_in(self.folder)

    @cached_property
    def anchor(self) -> Anchor:
        """What the keyring remembers of its ledger."""
        file = SecretFile.of_ledger(self.folder)
        return Anchor(self.engine, sub_key(self._secrets(file, ()).identity, "ledger"))

    @cached_property
    def engine(self) -> Engine:
        """The database of wrapped data keys; `KeyringError` if it is gone."""
        path = self.folder / DATABASE_NAME
        if not path.is_file():
            raise KeyringError(
                f"there is no database of keys at {path}; restore the whole keyring from one backup"
            )
        engine = open_engine(path, create=False)
        prepare(engine, create=False)
        return engine

    def close(self) -> None:
        """Give the connections to the database back and forget all keys."""
        if "engine" in self.__dict__:
            self.engine.dispose()
        self._holders.clear()

    def _load(self, holder_id: str) -> HolderKeys:
        if not (0 < len(holder_id) <= _LONGEST_HOLDER_ID and holder_id.isprintable()):
            raise KeyringError(
                f"a holder's name has {len(holder_id)} characters; "
                f"it needs 1..{_LONGEST_HOLDER_ID} printable ones"
            )
        file = SecretFile.of_holder(self.folder, holder_id)
        found = self._secrets(file, (_FIRST_WRAPPING,))
        wrapping = WrappingKeys(found.wrapping, lambda: self._secrets(file, ()).wrapping)
        data_keys = DataKeys(holder_id, lambda: self.engine, wrapping, clock=self._clock)
        return HolderKeys(holder_id, found.identity, data_keys)

    def _secrets(self, file: SecretFile, numbers: tuple[int, ...]) -> Secrets:
        found = file.load(self.kms)
        if found is None and self._create:
            # Under the lock no rotation can destroy the version that wraps the new file.
            with locked(self.folder / FILES_LOCK):
                self._refuse_lost(file)
                file.create(self.kms, Secrets.fresh(numbers))
            found = file.load(self.kms)
        if found is None:
            raise KeyringError(
                f"the keyring {self.folder} has no keys of {file.kind} {file.owner!r}; check the name and the folder"
            )
        return found

    def _refuse_lost(self, file: SecretFile) -> None:
        if not file.path.exists() and _finds(self.engine, _trace_of(file)):
            raise KeyringError(_lost(file.path))


def _refuse_remains(engine: Engine, folder: Path) -> None:
    remains = any(_finds(engine, select(table)) for table in (data_keys, ledger_heads, meta))
    # Another process may have made the keyring meanwhile, and its rows come after its key files.
    if remains and _is_fresh(folder):
        raise KeyringError(_lost(folder / KEY_FILE_NAME))


def _trace_of(file: SecretFile) -> Select[tuple[object, ...]]:
    """Return what finds the rows that only an owner with secrets has."""
    if file.path.name == LEDGER_FILE:
        return select(ledger_heads)
    return select(data_keys).where(data_keys.c.holder == file.owner)


def _finds(engine: Engine, query: Select[tuple[object, ...]]) -> bool:
    with reading(engine) as connection:
        return connection.execute(query.limit(1)).first() is not None


def _lost(path: Path) -> str:
    return (
        f"the key file {path} is lost: {path.with_name(DATABASE_NAME)} was written with it, and a new one would make "
        "every shopper a stranger whose budget is unspent; restore the whole keyring from one backup"
    )


def _is_fresh(folder: Path) -> bool:
    return not any(
        [
            (folder / KEY_FILE_NAME).exists(),
            (folder / LEDGER_FILE).exists(),
            *folder.glob(HOLDER_FILES),
        ]
    )
