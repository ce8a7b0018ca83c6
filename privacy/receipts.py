"""Signatures of a holder: Ed25519 (RFC 8032), under a key that only the holder's keyring can derive again."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.cipher import KEY_BYTES
from privacy.errors import PrivacyError


class Signer:
    """Signs what a holder states; who has the public key can verify it without the keyring."""

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of the private key."""
        if len(seed) != KEY_BYTES:
            raise PrivacyError(f"the seed of a signing key has {len(seed)} bytes; Ed25519 needs {KEY_BYTES}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: bytes = self._key.public_key().public_bytes_raw()
        """The 32 bytes by which a signature is verified."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) of `message`; the same message has the same signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        """Show the public key and nothing else."""
        return f"Signer({self.public_key.hex()})"


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` was made over exactly `message` by the owner of `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
