"""Keys of one round and what is made of them: masks that cancel, masks that are unmasked, sealed shares.

X25519 (RFC 7748) agrees, HKDF-SHA256 (RFC 5869) separates by purpose, round and pair, AES-256 in counter mode
(NIST SP 800-38A) makes the masks, AES-256-GCM seals. Every derived key is used for one stream or one message, so
counters and nonces may start at zero.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.cipher import aad_of
from privacy.errors import SecureAggregationError
from privacy.secagg.manifest import Unsigned

KEY_BYTES: Final = 32
SEAL_OVERHEAD: Final = 16
_NONCE: Final = bytes(12)
_COUNTER: Final = bytes(16)
_CHUNK_BYTES: Final = 2**18
"""Masks are made and added in pieces that stay in the processor's cache."""
_ZEROS: Final = bytes(_CHUNK_BYTES)
_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(KEY_BYTES))
"""Tries public keys; it protects nothing."""


def private_key(secret: bytes) -> X25519PrivateKey:
    """Return the X25519 private key of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_of(private: X25519PrivateKey) -> bytes:
    """Return the X25519 public key of a private one."""
    return private.public_key().public_bytes_raw()


def is_public_key(key: bytes) -> bool:
    """Return whether bytes are the one spelling of an X25519 public key with which a secret can be agreed on.

    That is 32 bytes whose unused top bit is clear, and no point of small order: it agrees on zeros with every key.
    """
    if len(key) != KEY_BYTES or key[-1] & 0x80:
        return False
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def digest_of(what: str, *parts: str | int | bytes) -> bytes:
    """Return the SHA-256 of length-prefixed parts, apart from those of any other purpose."""
    return hashlib.sha256(aad_of(f"fedrank/{what}/v1", *parts)).digest()


def commitment(digest: bytes, name: str, seed: bytes) -> bytes:
    """Return what a participant says of its self-mask seed beforehand; tells nothing of 256 random bits."""
    return digest_of("self-mask-commitment", digest, name, seed)


def self_mask_key(digest: bytes, name: str, seed: bytes) -> bytes:
    """Return the stream key of a participant's own mask in the round of this manifest digest."""
    return _derive(seed, "self-mask", digest, name)


def pair_mask_key(digest: bytes, private: X25519PrivateKey, public: bytes, one: str, other: str) -> bytes:
    """Return the stream key of the mask that two participants share; either side gets the same."""
    return _derive(_agree(private, public, other), "pair-mask", digest, *sorted((one, other)))


def sealing_key(
    digest: bytes, private: X25519PrivateKey, public: bytes, sender: str, receiver: str, peer: str
) -> bytes:
    """Return the key under which a sender seals its one message to a receiver; `peer` is whose public key it is."""
    return _derive(_agree(private, public, peer), "sealed-shares", digest, sender, receiver)


def share_digest(digest: bytes, owner: str, holder: str, share: bytes) -> bytes:
    """Return what an owner says beforehand of a share that it deals; tells nothing of 256 random bits."""
    return digest_of("share", digest, owner, holder, share)


def seal(key: bytes, plain: bytes) -> bytes:
    """Encrypt the one message of a key, which is bound to round, sender and receiver."""
    return AESGCM(key).encrypt(_NONCE, plain, None)


def unseal(key: bytes, sealed: bytes, sender: str) -> bytes:
    """Decrypt; raises `SecureAggregationError` where it was changed, moved or made by somebody else."""
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, None)
    except InvalidTag as error:
        raise SecureAggregationError(
            f"what {sender} sealed does not open; it was changed or replayed"
        ) from error


def mask(values: Unsigned, key: bytes, *, subtract: bool = False) -> None:
    """Add the stream of a key to integers in place, or take it off; modulo 2^b by overflow."""
    stream = Cipher(AES256(key), CTR(_COUNTER)).encryptor()
    step = _CHUNK_BYTES // values.itemsize
    buffer = np.empty(min(step, values.size), dtype=values.dtype)
    operation = np.subtract if subtract else np.add
    for start in range(0, values.size, step):
        piece = values[start : start + step]
        words = buffer[: piece.size]
        stream.update_into(memoryview(_ZEROS)[: words.nbytes], words.view(np.uint8).data)
        operation(piece, words, out=piece)


def pair_mask(values: Unsigned, key: bytes, one: str, other: str, *, undo: bool = False) -> None:
    """Put on the values of `one` the mask shared with `other`: the first in order adds, the second subtracts."""
    mask(values, key, subtract=(one > other) != undo)


def _agree(private: X25519PrivateKey, public: bytes, peer: str) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # a point of small order, with which every secret is zero
        raise SecureAggregationError(
            f"the public key of {peer} agrees on no secret; it must be made anew"
        ) from error


def _derive(secret: bytes, purpose: str, *parts: str | bytes) -> bytes:
    info = aad_of(f"fedrank/{purpose}/v1", *parts)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)
