"""The key-management service: the one place that holds the key-encryption key.

`Kms` is what the keyring needs from it. Two kinds exist: a local file (`privacy/kms_local.py`), and a token spoken to
by PKCS#11 (`privacy/kms_pkcs11.py`), such as a hardware security module, which the key never leaves. The file
`kms.key` in the keyring's folder says which kind a keyring has; nothing ever falls back to a weaker one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from privacy.errors import KeyringError, KmsUnavailable
from privacy.key_files import read_private

KEY_FILE_NAME: Final = "kms.key"
FORMAT: Final = 2
"""Of `kms.key` and the files of secrets; 1 was that of earlier development versions."""

NONE, PASSPHRASE, KEY_FILE, PKCS11 = "none", "passphrase", "key file", "pkcs11"
"""The kinds of protection, as `kms.key` names them."""


_WAYS: Final = {
    NONE: "unset the variables of the environment, or protect it first: fedrank keys protect",
    PASSPHRASE: "set FEDRANK_PASSPHRASE_FILE (or FEDRANK_PASSPHRASE)",
    KEY_FILE: "set FEDRANK_KEY_FILE to that file",
    PKCS11: "set FEDRANK_PKCS11_MODULE, FEDRANK_PKCS11_TOKEN and FEDRANK_PKCS11_PIN_FILE",
}


class Kms(Protocol):
    """Wraps and unwraps keys under a key that never leaves it; that key has numbered versions.

    `rotate`, `destroy` and their like are called by one process at a time; the others go on meanwhile.
    """

    @property
    def protection(self) -> str:
        """In words, what keeps the key-encryption key from whoever copies the keyring's folder."""
        ...

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Return `key` encrypted under the newest version and bound to `aad`; the header names the version."""
        ...

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the key inside `wrapped`, or raise `DecryptionError` (`UnknownKeyVersion` if that is the reason)."""
        ...

    def versions(self) -> tuple[int, ...]:
        """Return the versions that exist now, the newest last."""
        ...

    def rotate(self) -> int:
        """Make a new version, durably, and return its number; from now on `wrap` uses it."""
        ...

    def destroy(self, version: int) -> None:
        """Destroy a version for ever; what it wrapped cannot be opened any more. Repeating it does nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unprotected:
    """The key-encryption key lies in a file that only its owner can read; whoever copies the folder has it."""


@dataclass(frozen=True, kw_only=True)
class Passphrase:
    """The key-encryption key is encrypted under a key derived from a passphrase by scrypt (RFC 7914)."""

    text: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyFile:
    """The key-encryption key is encrypted under a key in a file elsewhere, such as on a removable medium."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Pkcs11Token:
    """The key-encryption key lies in a PKCS#11 token and never leaves it."""

    module: Path
    token: str
    pin: str = field(repr=False)


Unlock = Unprotected | Passphrase | KeyFile | Pkcs11Token
"""How the key-encryption key is protected and opened."""


_VARIABLE: Final[Mapping[type, str]] = {
    Passphrase: "FEDRANK_PASSPHRASE",
    KeyFile: "FEDRANK_KEY_FILE",
    Pkcs11Token: "FEDRANK_PKCS11_MODULE",
}


def unlock_from(environment: Mapping[str, str]) -> Unlock:
    """Choose how to open the key-encryption key by variables of the environment; `Unprotected` if none is set.

    FEDRANK_PASSPHRASE or FEDRANK_PASSPHRASE_FILE; FEDRANK_KEY_FILE; FEDRANK_PKCS11_MODULE with
    FEDRANK_PKCS11_TOKEN and FEDRANK_PKCS11_PIN or FEDRANK_PKCS11_PIN_FILE. Raises `KmsUnavailable` if they contradict
    each other or a file is gone.
    """
    passphrase = _secret(environment, "FEDRANK_PASSPHRASE")
    module = environment.get("FEDRANK_PKCS11_MODULE")
    found: list[Unlock] = []
    if passphrase is not None:
        found.append(Passphrase(text=passphrase))
    if file := environment.get("FEDRANK_KEY_FILE"):
        found.append(KeyFile(path=Path(file)))
    if module:
        found.append(_token(environment, Path(module)))
    if len(found) > 1:
        raise KmsUnavailable(
            "the environment names several ways to open the key-encryption key "
            f"({', '.join(_VARIABLE[type(one)] for one in found)}); leave the one that the keyring is protected by"
        )
    return found[0] if found else Unprotected()


def _token(environment: Mapping[str, str], module: Path) -> Pkcs11Token:
    token, pin = environment.get("FEDRANK_PKCS11_TOKEN"), _secret(environment, "FEDRANK_PKCS11_PIN")
    if not token or pin is None:
        raise KmsUnavailable(
            "FEDRANK_PKCS11_MODULE is set, but not which token and PIN; "
            "set FEDRANK_PKCS11_TOKEN and FEDRANK_PKCS11_PIN or FEDRANK_PKCS11_PIN_FILE"
        )
    return Pkcs11Token(module=module, token=token, pin=pin)


def _secret(environment: Mapping[str, str], name: str) -> str | None:
    """Return a secret from a variable, or from the private file that the variable NAME_FILE names."""
    direct, file = environment.get(name), environment.get(f"{name}_FILE")
    if direct and file:
        raise KmsUnavailable(f"{name} and {name}_FILE are both set; leave one of them")
    if not file:
        return direct or None
    return read_secret(Path(file), f"{name}_FILE")


def read_secret(path: Path, origin: str) -> str:
    """Return the one line of a private file; `KmsUnavailable` names `origin` if it is absent or empty."""
    content = read_private(path)
    if content is None:
        raise KmsUnavailable(
            f"{origin} names {path}, and there is no such file; correct the path or mount it"
        )
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise KmsUnavailable(
            f"{origin} names {path}, which holds no text in UTF-8; write the secret on one line"
        )
    return text


def kind_of(unlock: Unlock) -> str:
    """Return the kind of protection that `unlock` opens."""
    match unlock:
        case Unprotected():
            return NONE
        case Passphrase():
            return PASSPHRASE
        case KeyFile():
            return KEY_FILE
        case Pkcs11Token():
            return PKCS11


def check_kind(kind: str, unlock: Unlock, path: Path) -> None:
    """Refuse to open the key file `path`, protected as `kind`, in another way."""
    if kind != kind_of(unlock):
        raise KmsUnavailable(
            f"{path} has the protection '{kind}', but '{kind_of(unlock)}' was given; "
            f"{_WAYS.get(kind, 'update fedrank')}"
        )


def read_record(content: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object of a key file in the known format; `KeyringError` says what else it is."""
    try:
        record = json.loads(content)
        form = int(record["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from None
    if form < FORMAT:
        raise KeyringError(
            f"key file {path} has format {form}, of an earlier development version, and cannot be carried over; "
            "begin with a new keyring and new databases (a new run folder)"
        )
    if form > FORMAT:
        raise KeyringError(
            f"key file {path} has format {form}; this version of fedrank reads {FORMAT}; update fedrank"
        )
    return dict(record)


def damaged(path: Path, error: Exception) -> KeyringError:
    """Return the error of a key file that is not what was written."""
    return KeyringError(f"key file {path} is damaged ({type(error).__name__}); restore it from its backup")
