"""A key-encryption key that never leaves a PKCS#11 token: a hardware security module, a smart card, or SoftHSM.

Each version is an AES-256 key object of the token, not extractable, found by a label of the keyring's own and by its
number. Wrapping is AES-256-GCM inside the token; a wrapped key has the token format of `privacy/cipher.py`. The file
`kms.key` holds names only. Needs the package `python-pkcs11` (the extra `pkcs11`).
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from privacy.cipher import NONCE_BYTES, aad_of, key_id_of, pack_header, split_token
from privacy.errors import DecryptionError, KeyringError, KmsUnavailable, UnknownKeyVersion
from privacy.key_files import create_private, read_private
from privacy.kms import FORMAT, PKCS11, Pkcs11Token, damaged, read_record

if TYPE_CHECKING:
    from pkcs11 import Session

_VERSION: Final = 2
"""The version byte of wrapped keys, as in `KeyWrap`: a token's AES-GCM is the same AES-GCM."""

_AAD: Final = "fedrank/kms-pkcs11"
_ID_BYTES: Final = 4
# A token knows one login per process, so one session is open at a time.
_one_session = threading.RLock()


class Pkcs11Kms:
    """The numbered versions of a key-encryption key in a token; the newest one wraps."""

    def __init__(self, path: Path, unlock: Pkcs11Token) -> None:
        """Open the key that the file `path` names.

        Raises `KmsUnavailable` if the module, the token or the right PIN is missing, `KeyringError` if the token has
        lost the key or is not the one that the file names.
        """
        self._unlock = unlock
        self._token, self._label = _read_names(path)
        if self._token != unlock.token:
            raise KmsUnavailable(
                f"{path} names the token {self._token!r}, but FEDRANK_PKCS11_TOKEN is {unlock.token!r}; "
                "bring the token that the keyring was made with"
            )
        if not self.versions():
            raise KeyringError(
                f"the token {self._token!r} has no key {self._label!r}, which opens {path.parent}; "
                "restore the token from its backup"
            )

    @classmethod
    def create(cls, path: Path, unlock: Pkcs11Token) -> Self:
        """Make a key in the token for a new keyring, or open the one that another process just made."""
        label = f"fedrank-{secrets.token_hex(8)}"
        with _session(unlock) as session:
            _generate(session, label, 1)
            record = {"format": FORMAT, "protection": {"kind": PKCS11, "token": unlock.token, "label": label}}
            content = json.dumps(record).encode()
            if create_private(path, content) != content:
                for key in _objects(session, label).values():
                    key.destroy()
        return cls(path, unlock)

    @property
    def protection(self) -> str:
        """In words, what keeps the key-encryption key from whoever copies the folder."""
        return f"PKCS#11 token {self._token!r}, which the key never leaves"

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Return `key` encrypted in the token under the newest version and bound to `aad`."""
        nonce = os.urandom(NONCE_BYTES)
        with _session(self._unlock) as session:
            keys = _objects(session, self._label)
            header = pack_header(_VERSION, max(keys))
            return header + nonce + _encrypt(keys[max(keys)], key, nonce, header + aad_of(_AAD, aad))

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the key inside `wrapped`; `DecryptionError` if it was not wrapped here for `aad`."""
        version = key_id_of(wrapped)
        header, nonce, ciphertext = split_token(wrapped, _VERSION)
        with _session(self._unlock) as session:
            key = _objects(session, self._label).get(version)
            if key is None:
                raise UnknownKeyVersion(
                    f"a key was wrapped by version {version}, which the token {self._token!r} does not hold"
                )
            return _decrypt(key, ciphertext, nonce, header + aad_of(_AAD, aad))

    def versions(self) -> tuple[int, ...]:
        """Return the versions in the token, the newest last."""
        with _session(self._unlock) as session:
            return tuple(sorted(_objects(session, self._label)))

    def rotate(self) -> int:
        """Make a key of the next number in the token and return the number."""
        with _session(self._unlock) as session:
            version = max(_objects(session, self._label)) + 1
            _generate(session, self._label, version)
        return version

    def destroy(self, version: int) -> None:
        """Delete the key object of a version from the token."""
        with _session(self._unlock) as session:
            keys = _objects(session, self._label)
            if version == max(keys):
                raise KeyringError(f"version {version} of the key-encryption key is in use; rotate it first")
            if version in keys:
                keys[version].destroy()


def _read_names(path: Path) -> tuple[str, str]:
    record = read_record(read_private(path) or b"", path)
    try:
        return str(record["protection"]["token"]), str(record["protection"]["label"])
    except (KeyError, TypeError) as error:
        raise damaged(path, error) from None


@contextmanager
def _session(unlock: Pkcs11Token) -> Iterator[Session]:
    """Log in to the token for a moment; whatever fails there is `KmsUnavailable`, in one line without the PIN."""
    try:
        import pkcs11
    except ImportError:
        raise KmsUnavailable(
            "the package python-pkcs11 is not installed; run: pip install 'fedrank[pkcs11]'"
        ) from None
    try:
        with _one_session, _opened(unlock) as session:
            yield session
    except pkcs11.NoSuchToken:
        raise KmsUnavailable(
            f"there is no token {unlock.token!r} behind {unlock.module}; plug it in or correct FEDRANK_PKCS11_TOKEN"
        ) from None
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
        raise KmsUnavailable(
            f"the token {unlock.token!r} refuses the PIN; correct FEDRANK_PKCS11_PIN before it locks itself"
        ) from None
    except pkcs11.PKCS11Error as error:
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        raise KmsUnavailable(
            f"the token {unlock.token!r} behind {unlock.module} cannot be used ({words}); "
            "check the token and FEDRANK_PKCS11_MODULE"
        ) from None


def _opened(unlock: Pkcs11Token) -> Session:
    import pkcs11

    module = pkcs11.lib(str(unlock.module))
    try:
        token = module.get_token(token_label=unlock.token)
    except pkcs11.NoSuchToken:
        # A module looks for tokens when it starts; this one may have come later.
        module.reinitialize()
        token = module.get_token(token_label=unlock.token)
    return token.open(rw=True, user_pin=unlock.pin)


def _objects(session: Session, label: str) -> dict[int, Any]:
    from pkcs11 import Attribute, ObjectClass

    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label}
    return {int.from_bytes(key[Attribute.ID]): key for key in list(session.get_objects(wanted))}


def _generate(session: Session, label: str, version: int) -> None:
    from pkcs11 import Attribute, KeyType

    template = {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.ENCRYPT: True,
        Attribute.DECRYPT: True,
        Attribute.WRAP: False,
        Attribute.UNWRAP: False,
    }
    number = version.to_bytes(_ID_BYTES)
    session.generate_key(KeyType.AES, 256, label=label, id=number, store=True, template=template)


def _encrypt(key: Any, plain: bytes, nonce: bytes, aad: bytes) -> bytes:
    from pkcs11 import GCMParams, Mechanism

    return bytes(key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad)))


def _decrypt(key: Any, ciphertext: bytes, nonce: bytes, aad: bytes) -> bytes:
    from pkcs11 import EncryptedDataInvalid, EncryptedDataLenRange, GCMParams, GeneralError, Mechanism

    try:
        return bytes(
            key.decrypt(ciphertext, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad))
        )
    except (EncryptedDataInvalid, EncryptedDataLenRange, GeneralError):
        # SoftHSM says "general error" where the tag is wrong.
        raise DecryptionError(
            "a wrapped key failed authentication in the token: it was damaged or moved"
        ) from None
