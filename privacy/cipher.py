"""Authenticated encryption of stored fields and of keys; every token is bound to the place where it lies.

Token: version (1 byte) | key id (4 bytes, big-endian) | nonce (12) | ciphertext | tag (16). The header is
authenticated together with the caller's associated data, so a token opens only in its own place, under its
own key. Fields use AES-256-GCM-SIV (RFC 8452: a repeated nonce reveals only that two plaintexts are equal);
keys are wrapped by AES-256-GCM (NIST SP 800-38D), whose random nonces are few.
"""

import os
import struct
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.errors import DecryptionError, PrivacyError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER = struct.Struct(">BI")
_FIRST_SECRET_BYTE: Final = _HEADER.size + NONCE_BYTES

TOKEN_OVERHEAD: Final = _FIRST_SECRET_BYTE + _TAG_BYTES
"""Bytes that a token is longer than its plaintext."""


def aad_of(*parts: str | int | bytes) -> bytes:
    """Encode associated data as length-prefixed parts, so that ("ab", "c") and ("a", "bc") differ."""
    pieces: list[bytes] = []
    for part in parts:
        encoded = part if isinstance(part, bytes) else str(part).encode()
        pieces += (len(encoded).to_bytes(4, "big"), encoded)
    return b"".join(pieces)


def key_id_of(token: bytes) -> int:
    """Return the number of the key that a token's header names; `DecryptionError` if it is too short for one."""
    if len(token) < TOKEN_OVERHEAD:
        raise DecryptionError(_too_short(token))
    return int(_HEADER.unpack_from(token)[1])


def pack_header(version: int, key_id: int) -> bytes:
    """Return the first bytes of a token: its version and the number of its key."""
    return _HEADER.pack(version, key_id)


def split_token(token: bytes, version: int) -> tuple[bytes, bytes, bytes]:
    """Return header, nonce, and ciphertext with tag; `DecryptionError` if it is no token of `version`."""
    if len(token) < TOKEN_OVERHEAD or token[0] != version:
        raise DecryptionError(f"a ciphertext of {len(token)} bytes is none of version {version}")
    return token[: _HEADER.size], token[_HEADER.size : _FIRST_SECRET_BYTE], token[_FIRST_SECRET_BYTE:]


def sub_key(secret: bytes, label: str) -> bytes:
    """Derive the key of 32 bytes for one use, named by `label`, from a secret (HKDF-SHA256, RFC 5869)."""
    info = b"fedrank/v1/" + label.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


class _Aead(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class _TokenCipher:
    """The token format over one AEAD; its two subclasses choose the AEAD and the version byte."""

    __slots__ = ("_aead", "_header")

    def __init__(self, aead: _Aead, version: int, key_id: int) -> None:
        if not 0 <= key_id < 2**32:
            raise PrivacyError(f"key id {key_id} is outside 0..2^32-1")
        self._aead = aead
        self._header = _HEADER.pack(version, key_id)

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypt and authenticate `plaintext`, bound to `aad`; two calls never give the same token."""
        nonce = os.urandom(NONCE_BYTES)
        return self._header + nonce + self._aead.encrypt(nonce, plaintext, self._header + aad)

    def open(self, token: bytes, aad: bytes) -> bytes:
        """Return the plaintext of `token`, or raise `DecryptionError` if it is not exactly what was sealed
        here.
        """
        header, nonce = token[: _HEADER.size], token[_HEADER.size : _FIRST_SECRET_BYTE]
        if len(token) < TOKEN_OVERHEAD or header != self._header:
            raise DecryptionError(_explain_header(token, self._header))
        try:
            return self._aead.decrypt(nonce, token[_FIRST_SECRET_BYTE:], header + aad)
        except InvalidTag:
            raise DecryptionError(
                "a ciphertext failed authentication: it was damaged, moved, or sealed under another key"
            ) from None


class FieldCipher(_TokenCipher):
    """Seals the fields of one shopper under that shopper's data key (AES-256-GCM-SIV)."""

    __slots__ = ()
    VERSION: Final = 1

    def __init__(self, data_key: bytes, key_id: int) -> None:
        """Take a 32-byte data key and the number that names it in every token's header."""
        super().__init__(AESGCMSIV(_checked(data_key)), self.VERSION, key_id)


class KeyWrap(_TokenCipher):
    """Wraps keys under another key (AES-256-GCM)."""

    __slots__ = ()
    VERSION: Final = 2

    def __init__(self, wrapping_key: bytes, key_id: int) -> None:
        """Take a 32-byte wrapping key and the number that names it in every token's header."""
        super().__init__(AESGCM(_checked(wrapping_key)), self.VERSION, key_id)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise PrivacyError(f"a key has {len(key)} bytes; AES-256 needs {KEY_BYTES}")
    return key


def _explain_header(token: bytes, expected: bytes) -> str:
    if len(token) < TOKEN_OVERHEAD:
        return _too_short(token)
    version, key_id = _HEADER.unpack_from(token)
    own_version, own_key_id = _HEADER.unpack(expected)
    return (
        f"a ciphertext of version {version} under key {key_id} was given to a cipher of version "
        f"{own_version} with key {own_key_id}"
    )


def _too_short(token: bytes) -> str:
    return f"a ciphertext has {len(token)} bytes; the shortest possible has {TOKEN_OVERHEAD}"
