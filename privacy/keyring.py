"""Envelope encryption of keys: key-encryption key -> holder key -> one data key per shopper.

A holder is who keeps a shopper's events: a merchant, or the devices. Each holder has two secrets of 256 bits,
wrapped by the KMS and kept in one file: the identity, from which pseudonyms and blind indexes come and which
never changes, and the wrapping secret, numbered, which wraps the shoppers' data keys. What is used is never a
secret itself but a sub-key derived from it by HKDF-SHA256 (RFC 5869) under its own label. Several processes
may open one keyring at once.
"""

import base64
import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.cipher import KEY_BYTES, KeyWrap, aad_of
from privacy.errors import DecryptionError, KeyringError
from privacy.key_files import create_private, open_folder, read_private
from privacy.kms import KEY_FILE_NAME, Kms, LocalFileKms
from privacy.pseudonyms import Pseudonymiser

_FORMAT = 1
_FIRST_KEY_ID = 1
_BLIND_INDEX_BYTES = 16
_LONGEST_HOLDER_ID = 200
_HOLDER_FILES = "holder-*.json"


class HolderKeys:
    """The keys of one holder; the secrets stay inside and no method shows them."""

    def __init__(self, holder_id: str, identity: bytes, wrapping: bytes, wrapping_id: int) -> None:
        """Derive the sub-keys of `holder_id` from its two secrets of 32 bytes."""
        self.holder_id = holder_id
        self.pseudonymiser = Pseudonymiser(_sub_key(identity, "pseudonym"))
        self._blind_key = _sub_key(identity, "blind index")
        self._wrap = KeyWrap(_sub_key(wrapping, "data key wrap"), wrapping_id)

    def new_data_key(self, aad: bytes) -> tuple[bytes, bytes]:
        """Return a fresh random data key of 32 bytes, and the same wrapped for storage and bound to `aad`."""
        key = secrets.token_bytes(KEY_BYTES)
        return key, self._wrap.seal(key, aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the data key inside `wrapped`; `DecryptionError` if it is damaged, moved or another
        holder's.
        """
        return self._wrap.open(wrapped, aad)

    def blind_index(self, value: str) -> bytes:
        """Return 16 bytes that find `value` again and do not reveal it; only for values nobody can guess."""
        return hmac.digest(self._blind_key, value.encode(), "sha256")[:_BLIND_INDEX_BYTES]

    def __repr__(self) -> str:
        """Name the holder and nothing else."""
        return f"HolderKeys({self.holder_id!r})"


class Keyring:
    """The keys of all holders in one folder of mode 0700."""

    def __init__(self, folder: Path, kms: Kms, *, create: bool = True) -> None:
        """Use the holder keys in `folder`, wrapped by `kms`; `create` allows keys for holders not seen
        before.
        """
        self._folder = folder
        self._kms = kms
        self._create = create
        self._holders: dict[str, HolderKeys] = {}

    @classmethod
    def open(cls, path: Path, create: bool = True) -> Self:
        """Open the keyring folder `path` with its local key-encryption key, making both if absent and
        allowed.

        Raises `KeyringError` if anyone but the owner could read or replace a key, if a file is damaged, or if
        holder keys are there whose key-encryption key is gone (a new one could never open them).
        """
        open_folder(path, create=create)
        fresh = not (path / KEY_FILE_NAME).exists()
        if fresh and create and not any(path.glob(_HOLDER_FILES)):
            return cls(path, LocalFileKms.create(path), create=create)
        return cls(path, LocalFileKms.open(path), create=create)

    def holder(self, holder_id: str) -> HolderKeys:
        """Return the keys of a holder; made by the first call for it, if this keyring may create keys."""
        if holder_id not in self._holders:
            self._holders[holder_id] = self._load(holder_id)
        return self._holders[holder_id]

    def _load(self, holder_id: str) -> HolderKeys:
        if not (0 < len(holder_id) <= _LONGEST_HOLDER_ID and holder_id.isprintable()):
            raise KeyringError(
                f"a holder's name has {len(holder_id)} characters; "
                f"it needs 1..{_LONGEST_HOLDER_ID} printable ones"
            )
        # A hash keeps any character of a holder's name out of the file system.
        path = self._folder / f"holder-{hashlib.sha256(holder_id.encode()).hexdigest()[:32]}.json"
        content = read_private(path)
        if content is None and not self._create:
            raise KeyringError(
                f"the keyring {self._folder} has no keys of holder {holder_id!r}; check its name"
            )
        if content is None:
            content = create_private(path, self._new_record(holder_id))
        return self._decode(content, holder_id, path)

    def _new_record(self, holder_id: str) -> bytes:
        def wrapped(purpose: str) -> str:
            token = self._kms.wrap(secrets.token_bytes(KEY_BYTES), _secret_aad(holder_id, purpose))
            return base64.b64encode(token).decode()

        wrapping = {str(_FIRST_KEY_ID): wrapped(f"wrapping/{_FIRST_KEY_ID}")}
        record = {
            "format": _FORMAT,
            "holder": holder_id,
            "identity": wrapped("identity"),
            "wrapping": wrapping,
        }
        return json.dumps(record).encode()

    def _decode(self, content: bytes, holder_id: str, path: Path) -> HolderKeys:
        try:
            record = json.loads(content)
            form = int(record["format"])
            identity = self._secret(record["identity"], holder_id, "identity")
            newest = max(int(key_id) for key_id in record["wrapping"])
            wrapping = self._secret(record["wrapping"][str(newest)], holder_id, f"wrapping/{newest}")
        except (ValueError, KeyError, TypeError, AttributeError, DecryptionError) as error:
            raise KeyringError(
                f"key file {path} cannot be opened ({type(error).__name__}): it is damaged or belongs to "
                "another key-encryption key; restore both from the same backup"
            ) from None
        if form != _FORMAT:
            raise KeyringError(f"key file {path} has format {form}; this version of fedrank reads {_FORMAT}")
        return HolderKeys(holder_id, identity, wrapping, newest)

    def _secret(self, encoded: Any, holder_id: str, purpose: str) -> bytes:
        return self._kms.unwrap(base64.b64decode(encoded, validate=True), _secret_aad(holder_id, purpose))


def _secret_aad(holder_id: str, purpose: str) -> bytes:
    return aad_of("fedrank/holder-key", _FORMAT, holder_id, purpose)


def _sub_key(secret: bytes, label: str) -> bytes:
    info = b"fedrank/v1/" + label.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)
