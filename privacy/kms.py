"""The key-management service: the one place that holds the key-encryption key.

`Kms` is what the keyring needs from it; `LocalFileKms` keeps the key in a file of mode 0600 beside the holder
keys.
"""

import base64
import json
import secrets
from pathlib import Path
from typing import Protocol, Self

from privacy.cipher import KEY_BYTES, KeyWrap, aad_of
from privacy.errors import KeyringError
from privacy.key_files import create_private, read_private

KEY_FILE_NAME = "kms.key"
_FORMAT = 1


class Kms(Protocol):
    """Wraps and unwraps keys under a key that never leaves it."""

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Return `key` encrypted and bound to `aad`."""
        ...

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the key inside `wrapped`, or raise `DecryptionError`."""
        ...


class LocalFileKms:
    """A key-encryption key in one local file, which only its owner may read."""

    def __init__(self, key: bytes, key_id: int) -> None:
        """Take the 32-byte key-encryption key and its number."""
        self._cipher = KeyWrap(key, key_id)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Load the key-encryption key of `folder`; `KeyringError` if it is missing, damaged or exposed."""
        path = folder / KEY_FILE_NAME
        content = read_private(path)
        if content is None:
            raise KeyringError(f"there is no key-encryption key at {path}; restore it from its backup")
        return cls(*_decode(content, path))

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make a new key-encryption key in `folder`, or load the one that another process just made."""
        path = folder / KEY_FILE_NAME
        key_id, key = secrets.randbits(32), secrets.token_bytes(KEY_BYTES)
        fresh = json.dumps({"format": _FORMAT, "key_id": key_id, "key": base64.b64encode(key).decode()})
        return cls(*_decode(create_private(path, fresh.encode()), path))

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Return `key` encrypted under the key-encryption key and bound to `aad`."""
        return self._cipher.seal(key, aad_of("fedrank/kms", aad))

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the key inside `wrapped`; `DecryptionError` if it was not wrapped here for `aad`."""
        return self._cipher.open(wrapped, aad_of("fedrank/kms", aad))


def _decode(content: bytes, path: Path) -> tuple[bytes, int]:
    try:
        record = json.loads(content)
        form, key_id = int(record["format"]), int(record["key_id"])
        key = base64.b64decode(record["key"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise KeyringError(
            f"key file {path} is damaged ({type(error).__name__}); restore it from its backup"
        ) from None
    if form != _FORMAT:
        raise KeyringError(f"key file {path} has format {form}; this version of fedrank reads {_FORMAT}")
    if len(key) != KEY_BYTES or not 0 <= key_id < 2**32:
        raise KeyringError(
            f"key file {path} is damaged: a key of {len(key)} bytes; restore it from its backup"
        )
    return key, key_id
