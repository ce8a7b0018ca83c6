"""Which key-management service a keyring has: what `kms.key` says, opened as the environment says."""

from pathlib import Path

from privacy.kms import KEY_FILE_NAME, Kms, Unlock
from privacy.kms_local import LocalFileKms


def create_kms(folder: Path, unlock: Unlock) -> Kms:
    """Make a key-encryption key for a new keyring, or open the one that another process just made."""
    return LocalFileKms.create(folder / KEY_FILE_NAME, unlock)


def open_kms(folder: Path, unlock: Unlock) -> Kms:
    """Open the key-encryption key of a keyring.

    Raises `KeyringError`, as `WrongPassphrase` or `KmsUnavailable` where that is the reason.
    """
    return LocalFileKms(folder / KEY_FILE_NAME, unlock)
