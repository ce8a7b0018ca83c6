"""A key-encryption key in one local file, which is private to its owner and may itself be encrypted.

`kms.key` holds all versions of the key. Under a passphrase or a key file they are sealed by AES-256-GCM. The file is
replaced as a whole, so whoever reads it sees the old one or the new one.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from privacy.cipher import KEY_BYTES, KeyWrap, aad_of, key_id_of
from privacy.errors import KeyringError, UnknownKeyVersion
from privacy.key_files import create_private, read_private, replace_private
from privacy.kms import FORMAT, Unlock, damaged, read_record
from privacy.kms_lock import FileLock, new_lock, open_lock

_AAD: Final = "fedrank/kms"


class LocalFileKms:
    """The numbered versions of a key-encryption key, kept in `kms.key`; the newest one wraps."""

    def __init__(self, path: Path, unlock: Unlock) -> None:
        """Open the key file `path`.

        Raises `KeyringError` if it is missing, damaged or exposed, `WrongPassphrase` if `unlock` does not open it,
        and `KmsUnavailable` if it is protected in another way than `unlock` says.
        """
        self._path, self._unlock = path, unlock
        self._content, self._lock, self._keys = _read(path, unlock, None)

    @classmethod
    def create(cls, path: Path, unlock: Unlock) -> Self:
        """Make a key file with a first version, or open the one that another process just made."""
        create_private(path, _encode({1: secrets.token_bytes(KEY_BYTES)}, new_lock(unlock, path)))
        return cls(path, unlock)

    @property
    def protection(self) -> str:
        """In words, what keeps the key-encryption key from whoever copies the folder."""
        return self._lock.words

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Return `key` encrypted under the newest version in the file and bound to `aad`."""
        version = self.versions()[-1]
        return KeyWrap(self._keys[version], version).seal(key, aad_of(_AAD, aad))

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the key inside `wrapped`; `DecryptionError` if it was not wrapped here for `aad`."""
        version = key_id_of(wrapped)
        if version not in self._keys and version not in self.versions():
            raise UnknownKeyVersion(
                f"a key was wrapped by version {version}, which {self._path} does not hold"
            )
        return KeyWrap(self._keys[version], version).open(wrapped, aad_of(_AAD, aad))

    def versions(self) -> tuple[int, ...]:
        """Return the versions in the file, read anew, the newest last."""
        content = read_private(self._path)
        if content != self._content:
            self._content, self._lock, self._keys = _read(self._path, self._unlock, self._lock)
        return tuple(sorted(self._keys))

    def rotate(self) -> int:
        """Add a version to the file, durably, and return its number."""
        version = self.versions()[-1] + 1
        self._store({**self._keys, version: secrets.token_bytes(KEY_BYTES)}, self._lock)
        return version

    def destroy(self, version: int) -> None:
        """Remove a version from the file, whose old bytes are overwritten."""
        versions = self.versions()
        if version == versions[-1]:
            raise KeyringError(f"version {version} of the key-encryption key is in use; rotate it first")
        if version in versions:
            self._store({other: key for other, key in self._keys.items() if other != version}, self._lock)

    def protect(self, unlock: Unlock) -> None:
        """Protect the file by `unlock` from now on, in place of what protects it; the keys stay the same."""
        self.versions()
        self._store(self._keys, new_lock(unlock, self._path))
        self._unlock = unlock

    def _store(self, keys: Mapping[int, bytes], lock: FileLock) -> None:
        content = _encode(keys, lock)
        replace_private(self._path, content)
        self._content, self._lock, self._keys = content, lock, dict(keys)


def _read(path: Path, unlock: Unlock, known: FileLock | None) -> tuple[bytes, FileLock, dict[int, bytes]]:
    content = read_private(path)
    if content is None:
        raise KeyringError(f"there is no key-encryption key at {path}; restore it from its backup")
    record = read_record(content, path)
    try:
        lock = open_lock(unlock, record["protection"], path, known)
        stored = base64.b64decode(record["keys"], validate=True)
        keys = json.loads(lock.open(stored, path))
        decoded = {int(version): base64.b64decode(key, validate=True) for version, key in keys.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from None
    sizes = {len(key) for key in decoded.values()}
    if sizes != {KEY_BYTES} or not all(0 < version < 2**32 for version in decoded):
        raise damaged(path, ValueError())
    return content, lock, decoded


def _encode(keys: Mapping[int, bytes], lock: FileLock) -> bytes:
    plain = {str(version): base64.b64encode(key).decode() for version, key in keys.items()}
    stored = base64.b64encode(lock.seal(json.dumps(plain).encode())).decode()
    return json.dumps({"format": FORMAT, "protection": lock.parameters, "keys": stored}).encode()
