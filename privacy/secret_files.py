"""Files of secrets that a key-management service wraps: one per holder, and one for the keyring's ledger.

Each has an identity, which never changes, and numbered wrapping secrets (the ledger's has none). Every secret is
wrapped by itself and bound to its owner and its use.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from privacy.cipher import KEY_BYTES, aad_of, key_id_of
from privacy.errors import DecryptionError, KeyringError, UnknownKeyVersion
from privacy.key_files import create_private, read_private, replace_private
from privacy.kms import FORMAT, Kms, damaged, read_record

HOLDER_FILES: Final = "holder-*.json"
LEDGER_FILE: Final = "ledger.json"
_ATTEMPTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The secrets of one owner, each of 32 bytes; printing shows none."""

    identity: bytes = field(repr=False)
    wrapping: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def fresh(cls, numbers: tuple[int, ...]) -> Self:
        """Draw an identity and a wrapping secret for each number."""
        wrapping = {number: secrets.token_bytes(KEY_BYTES) for number in numbers}
        return cls(identity=secrets.token_bytes(KEY_BYTES), wrapping=wrapping)

    def with_wrapping_secret(self) -> Self:
        """Return the same with one more wrapping secret, whose number is higher than all others."""
        fresh = {max(self.wrapping) + 1: secrets.token_bytes(KEY_BYTES)}
        return replace(self, wrapping={**self.wrapping, **fresh})


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """The file of one owner's secrets."""

    path: Path
    kind: str
    owner: str

    @classmethod
    def of_holder(cls, folder: Path, holder: str) -> Self:
        """Return the file of a holder; a hash keeps any character of its name out of the file system."""
        name = f"holder-{hashlib.sha256(holder.encode()).hexdigest()[:32]}.json"
        return cls(path=folder / name, kind="holder", owner=holder)

    @classmethod
    def of_ledger(cls, folder: Path) -> Self:
        """Return the file of the secret that binds a ledger to the keyring."""
        return cls(path=folder / LEDGER_FILE, kind="keyring", owner="ledger")

    def load(self, kms: Kms) -> Secrets | None:
        """Open the secrets, or return None if there are none; `KeyringError` if they do not open."""
        for attempt in range(_ATTEMPTS):
            content = read_private(self.path)
            if content is None:
                return None
            try:
                return self._decode(content, kms)
            except UnknownKeyVersion:
                # A rotation may have wrapped the file anew since it was read.
                if attempt == _ATTEMPTS - 1:
                    raise self._foreign() from None
        return None

    def create(self, kms: Kms, fresh: Secrets) -> None:
        """Write the file unless it is there."""
        create_private(self.path, self._encode(fresh, kms))

    def replace(self, kms: Kms, changed: Secrets) -> None:
        """Write the file anew, wrapped by the newest version of the key-encryption key."""
        replace_private(self.path, self._encode(changed, kms))

    def versions(self) -> set[int]:
        """Return the versions of the key-encryption key that wrap what is in the file."""
        record = read_record(read_private(self.path) or b"", self.path)
        tokens = [record["identity"], *record["wrapping"].values()]
        return {key_id_of(base64.b64decode(token, validate=True)) for token in tokens}

    def _decode(self, content: bytes, kms: Kms) -> Secrets:
        record = read_record(content, self.path)

        def secret(token: str, use: str) -> bytes:
            return kms.unwrap(base64.b64decode(token, validate=True), self._aad(use))

        try:
            wrapping = {
                int(number): secret(token, f"wrapping/{int(number)}")
                for number, token in record["wrapping"].items()
            }
            return Secrets(identity=secret(record["identity"], "identity"), wrapping=wrapping)
        except UnknownKeyVersion:
            raise
        except DecryptionError:
            raise self._foreign() from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.path, error) from None

    def _encode(self, secrets: Secrets, kms: Kms) -> bytes:
        def token(secret: bytes, use: str) -> str:
            return base64.b64encode(kms.wrap(secret, self._aad(use))).decode()

        record = {
            "format": FORMAT,
            "owner": self.owner,
            "identity": token(secrets.identity, "identity"),
            "wrapping": {
                str(number): token(secret, f"wrapping/{number}")
                for number, secret in secrets.wrapping.items()
            },
        }
        return json.dumps(record).encode()

    def _aad(self, use: str) -> bytes:
        return aad_of("fedrank/secrets", FORMAT, self.kind, self.owner, use)

    def _foreign(self) -> KeyringError:
        return KeyringError(
            f"key file {self.path} cannot be opened: it is damaged or belongs to another key-encryption key; "
            "restore both from the same backup"
        )


def holders_in(folder: Path) -> tuple[str, ...]:
    """Return the names of all holders whose files are in a folder, sorted."""
    return tuple(sorted(_owner(path) for path in folder.glob(HOLDER_FILES)))


def secret_files_in(folder: Path) -> list[SecretFile]:
    """Return all files of secrets in a folder: those of the holders, and the ledger's if it is there."""
    holders = [SecretFile.of_holder(folder, holder) for holder in holders_in(folder)]
    ledger = SecretFile.of_ledger(folder)
    return holders + [ledger] * ledger.path.exists()


def _owner(path: Path) -> str:
    record = read_record(read_private(path) or b"", path)
    try:
        return str(record["owner"])
    except KeyError as error:
        raise damaged(path, error) from None
