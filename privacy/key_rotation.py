"""Rotation of the two upper layers of keys; the layer below, the data keys, is `client/store_rotation.py`.

Each layer goes in three steps: a fresh secret is made beside the old one, everything that the old one wraps is
wrapped anew, and the old one is destroyed. Other processes go on meanwhile: they look for a secret that they do not
know in the file once more. What has not been finished shows in the number of secrets, so the next rotation of the
layer finishes it, wherever the last one was killed. Both are to be called inside `one_rotation`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from privacy import data_key_rows as stored
from privacy.data_keys import place_of
from privacy.database import drop_deleted_bytes, reading, writing
from privacy.errors import KeyringError, RotationRunning
from privacy.failpoints import Failpoint, no_failpoint
from privacy.key_files import locked, remove_leftovers
from privacy.key_wrapping import WrappingKeys
from privacy.keyring import FILES_LOCK, Keyring
from privacy.kms import Kms
from privacy.secret_files import SecretFile, Secrets, secret_files_in

ROTATION_LOCK: Final = ".rotation.lock"
"""Held by whoever rotates, protects or copies the keys of a folder."""

PACE: Final = 4.0
"""How many times as long as a transaction took the database is left to others afterwards."""

_PAGE: Final = 500


@contextmanager
def one_rotation(folder: Path) -> Iterator[None]:
    """Be the only one who rotates, protects or copies the keys of `folder`; `RotationRunning` if another does."""
    with locked(folder / ROTATION_LOCK, wait=False) as alone:
        if not alone:
            raise RotationRunning(
                f"another process rotates, protects or copies the keys in {folder}; wait until it is done"
            )
        with locked(folder / FILES_LOCK):
            remove_leftovers(folder)
        yield


def rotate_kek(keyring: Keyring, *, failpoint: Failpoint = no_failpoint) -> int:
    """Put a fresh version of the key-encryption key in place of all older ones; return how many files it wraps."""
    kms, folder = keyring.kms, keyring.folder
    with locked(folder / FILES_LOCK):
        # Whoever makes a file holds this lock too, so every file is made under the new version or found below.
        newest = kms.rotate() if len(kms.versions()) == 1 else kms.versions()[-1]
        files = secret_files_in(folder)
    failpoint("rewrap: kek made")
    for file in files:
        with locked(folder / FILES_LOCK):
            if file.versions() != {newest}:
                file.replace(kms, _secrets(file, kms))
        failpoint("rewrap: file wrapped")
    for version in kms.versions()[:-1]:
        kms.destroy(version)
    failpoint("rewrap: old kek destroyed")
    return len(files)


def rotate_wrapping(
    keyring: Keyring, holder: str, *, pace: float = PACE, failpoint: Failpoint = no_failpoint
) -> int:
    """Put a fresh wrapping secret in place of a holder's older ones; return how many data keys it wraps anew.

    Data keys that do not open are passed over: they are damaged, and only a backup of the whole keyring can bring
    them back. Between two transactions the database is left alone for `pace` times as long as one took.
    """
    file, kms = SecretFile.of_holder(keyring.folder, holder), keyring.kms
    secrets = _secrets(file, kms)
    if len(secrets.wrapping) == 1:
        secrets = secrets.with_wrapping_secret()
        file.replace(kms, secrets)
    newest = max(secrets.wrapping)
    failpoint("rewrap: secret made")
    with writing(keyring.engine) as connection:
        # Every new data key asks for this number, so from here on the older secrets wrap nothing new.
        stored.set_fact(connection, stored.WRAPPING, holder, newest)
    failpoint("rewrap: secret in use")
    rewrapped = 0
    for count in _rewrap(keyring.engine, holder, secrets, pace):
        rewrapped += count
        failpoint("rewrap: page wrapped")
    drop_deleted_bytes(keyring.engine)
    file.replace(kms, replace(secrets, wrapping={newest: secrets.wrapping[newest]}))
    failpoint("rewrap: old secret destroyed")
    return rewrapped


def _rewrap(engine: Engine, holder: str, secrets: Secrets, pace: float) -> Iterator[int]:
    """Wrap a holder's data keys by its newest secret, page by page; give how many each page had."""
    newest, after = max(secrets.wrapping), ("", 0)
    wrapping = WrappingKeys(secrets.wrapping, lambda: secrets.wrapping)
    while True:
        with reading(engine) as connection:
            rows = stored.rows_outside(connection, holder, newest, after, _PAGE)
        if not rows:
            return
        changes = []
        for row in rows:
            place = place_of(holder, row.shopper, row.key_id)
            if (key := wrapping.opened(row.wrapped, place)) is not None:
                changes.append((row, newest, wrapping.cipher(newest).seal(key, place)))
        begun = time.perf_counter()
        with writing(engine) as connection:
            stored.replace_wrapped(connection, holder, changes)
        after = rows[-1].shopper, rows[-1].key_id
        yield len(changes)
        time.sleep(pace * (time.perf_counter() - begun))


def _secrets(file: SecretFile, kms: Kms) -> Secrets:
    secrets = file.load(kms)
    if secrets is None:
        raise KeyringError(f"the keyring {file.path.parent} has no keys of {file.kind} {file.owner!r}")
    return secrets
