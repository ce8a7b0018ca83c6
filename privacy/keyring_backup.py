"""A copy of a whole keyring, of one moment, for the day on which the folder is lost.

Such a copy opens everything that the keyring opens, under the same passphrase, key file or token, and it still has
the keys of shoppers who are erased after it was made. So it is to be kept apart from every copy of a database, and
not for long.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from privacy.database import open_engine
from privacy.errors import KeyringError
from privacy.key_files import flush_folder, locked, read_private, write_durably
from privacy.key_rotation import one_rotation
from privacy.keyring import DATABASE_NAME, FILES_LOCK
from privacy.kms import KEY_FILE_NAME
from privacy.secret_files import secret_files_in

_UNFINISHED: Final = ".unfinished"


def backup_keyring(folder: Path, target: Path) -> tuple[str, ...]:
    """Copy the keyring in `folder` to a new folder `target`, whole or not at all; return the names of the files.

    Others may use the keyring meanwhile. Raises `KeyringError` if `target` is there already or cannot be written, and
    `RotationRunning` if the keys are being rotated.
    """
    if target.exists():
        raise KeyringError(
            f"{target} is there already; a backup never replaces anything, so name a new folder"
        )
    beside = target.with_name(target.name + _UNFINISHED)
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        with one_rotation(folder), locked(folder / FILES_LOCK):
            names = _copy(folder, beside)
        flush_folder(beside)
        beside.rename(target)
        flush_folder(target.parent)
    except OSError as error:
        raise KeyringError(f"the keys cannot be copied to {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return names


def _copy(folder: Path, target: Path) -> tuple[str, ...]:
    _copy_database(folder / DATABASE_NAME, target / DATABASE_NAME)
    names = [KEY_FILE_NAME, *(file.path.name for file in secret_files_in(folder))]
    for name in names:
        content = read_private(folder / name)
        if content is None:
            raise KeyringError(f"there is no key file at {folder / name}; restore it from its backup")
        write_durably(target / name, content)
    return (*names, DATABASE_NAME)


def _copy_database(source: Path, target: Path) -> None:
    write_durably(target, b"")
    engine = open_engine(source, create=False)
    try:
        with closing(engine.raw_connection()) as connection, closing(sqlite3.connect(target)) as copy:
            driver = connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.backup(copy)
    finally:
        engine.dispose()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
