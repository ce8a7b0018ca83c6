"""Which key-management service a keyring has: what `kms.key` says, opened as the environment says."""

from pathlib import Path

from privacy.errors import KeyringError, KmsUnavailable
from privacy.key_files import read_private
from privacy.kms import KEY_FILE_NAME, Kms, Pkcs11Token, Unlock, check_kind, damaged, read_record
from privacy.kms_local import LocalFileKms
from privacy.kms_pkcs11 import Pkcs11Kms


def create_kms(folder: Path, unlock: Unlock) -> Kms:
    """Make a key-encryption key for a new keyring, or open the one that another process just made."""
    path = folder / KEY_FILE_NAME
    if isinstance(unlock, Pkcs11Token):
        return Pkcs11Kms.create(path, unlock)
    return LocalFileKms.create(path, unlock)


def open_kms(folder: Path, unlock: Unlock) -> Kms:
    """Open the key-encryption key of a keyring.

    Raises `KeyringError`, as `WrongPassphrase` or `KmsUnavailable` where that is the reason.
    """
    path = folder / KEY_FILE_NAME
    kind = _kind(path)
    check_kind(kind, unlock, path)
    if isinstance(unlock, Pkcs11Token):
        return Pkcs11Kms(path, unlock)
    return LocalFileKms(path, unlock)


def change_protection(kms: Kms, unlock: Unlock) -> None:
    """Protect a local key-encryption key by `unlock` from now on; only inside `one_rotation`.

    Raises `KmsUnavailable` if either is a token: a key does not leave it, and does not get into it.
    """
    if not isinstance(kms, LocalFileKms) or isinstance(unlock, Pkcs11Token):
        raise KmsUnavailable(
            "a key-encryption key neither leaves a PKCS#11 token nor gets into one; change the PIN with the token's "
            "own tools, and choose a token when the keyring is made"
        )
    kms.protect(unlock)


def _kind(path: Path) -> str:
    content = read_private(path)
    if content is None:
        raise KeyringError(f"there is no key-encryption key at {path}; restore it from its backup")
    try:
        return str(read_record(content, path)["protection"]["kind"])
    except (KeyError, TypeError) as error:
        raise damaged(path, error) from None
