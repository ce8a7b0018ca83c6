"""What protects a local file of key-encryption keys: nothing but its mode, a passphrase, or a key file elsewhere."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from privacy.cipher import KEY_BYTES, KeyWrap, aad_of, sub_key
from privacy.errors import DecryptionError, KeyringError, KmsUnavailable, WrongPassphrase
from privacy.key_files import read_private
from privacy.kms import KEY_FILE, NONE, PASSPHRASE, KeyFile, Passphrase, Unlock, check_kind, kind_of

SCRYPT_COST: Final = 2**17
"""N of scrypt (r = 8, p = 1): 128 MiB and a third of a second for each guess; OWASP's advice of 2024."""

SHORTEST_PASSPHRASE: Final = 12
"""Fewest characters of a new passphrase."""

_SCRYPT_BLOCK: Final = 8
_MOST_COST: Final = 2**20
_SALT_BYTES: Final = 16
_WORDS: Final = {
    NONE: "file of mode 0600, not encrypted: whoever copies the folder can read everything",
    PASSPHRASE: "passphrase (scrypt)",
    KEY_FILE: "key file outside the folder",
}


@dataclass(frozen=True, kw_only=True)
class FileLock:
    """Seals the content of one key file under what protects it."""

    parameters: Mapping[str, Any]
    key: bytes | None = field(repr=False)

    @property
    def words(self) -> str:
        """The protection, for people."""
        return _WORDS[self.parameters["kind"]]

    def seal(self, plain: bytes) -> bytes:
        """Return `plain` as it is to be stored."""
        return plain if self.key is None else KeyWrap(self.key, 0).seal(plain, self._aad())

    def open(self, stored: bytes, path: Path) -> bytes:
        """Return what was sealed; `WrongPassphrase` if it does not open."""
        if self.key is None:
            return stored
        try:
            return KeyWrap(self.key, 0).open(stored, self._aad())
        except DecryptionError:
            raise WrongPassphrase(
                f"{path} does not open with the {self.parameters['kind']} that was given: it is the wrong one, or "
                "the file is damaged; give the right one or restore the file from its backup"
            ) from None

    def _aad(self) -> bytes:
        return aad_of("fedrank/kms-file", json.dumps(self.parameters, sort_keys=True))


def new_lock(unlock: Unlock, path: Path) -> FileLock:
    """Make a lock for the key file `path`; a passphrase gets a fresh salt."""
    parameters: dict[str, Any] = {"kind": kind_of(unlock)}
    if isinstance(unlock, Passphrase):
        if len(unlock.text) < SHORTEST_PASSPHRASE:
            raise KeyringError(
                f"a passphrase of {len(unlock.text)} characters can be guessed; use {SHORTEST_PASSPHRASE} or more"
            )
        salt = base64.b64encode(os.urandom(_SALT_BYTES)).decode()
        parameters |= {"salt": salt, "n": SCRYPT_COST, "r": _SCRYPT_BLOCK, "p": 1}
    return FileLock(parameters=parameters, key=_key(unlock, parameters, path))


def open_lock(
    unlock: Unlock, parameters: Mapping[str, Any], path: Path, known: FileLock | None = None
) -> FileLock:
    """Open the lock of the key file `path` with these parameters; one that is `known` already costs nothing.

    Raises `KmsUnavailable` if the file is protected in another way than `unlock` says, or the key file is gone.
    """
    if known is not None and known.parameters == parameters:
        return known
    check_kind(str(parameters["kind"]), unlock, path)
    return FileLock(parameters=dict(parameters), key=_key(unlock, parameters, path))


def _key(unlock: Unlock, parameters: Mapping[str, Any], path: Path) -> bytes | None:
    match unlock:
        case Passphrase(text=text):
            return _from_passphrase(text, parameters)
        case KeyFile(path=file):
            return _from_file(file, path)
    return None


def _from_passphrase(text: str, parameters: Mapping[str, Any]) -> bytes:
    salt, cost = base64.b64decode(parameters["salt"], validate=True), int(parameters["n"])
    # A damaged or planted file must not make this take all memory or for ever.
    if not 2 <= cost <= _MOST_COST or (parameters["r"], parameters["p"]) != (_SCRYPT_BLOCK, 1):
        raise ValueError("parameters of scrypt")
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=_SCRYPT_BLOCK, p=1).derive(text.encode())


def _from_file(file: Path, path: Path) -> bytes:
    if file.resolve().parent == path.resolve().parent:
        raise KeyringError(
            f"key file {file} lies in the folder that it is to protect; keep it on another medium"
        )
    content = read_private(file)
    if content is None:
        raise KmsUnavailable(
            f"there is no key file at {file}; mount or restore it "
            f"(a new one: umask 077; head -c {KEY_BYTES} /dev/urandom > FILE)"
        )
    if len(content) < KEY_BYTES:
        raise KeyringError(f"key file {file} has {len(content)} bytes; at least {KEY_BYTES} are needed")
    return sub_key(content, "key file")
