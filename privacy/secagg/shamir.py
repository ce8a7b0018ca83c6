"""Shamir's sharing of 32-byte secrets: any `threshold` shares give the secret, fewer say nothing about it.

Arithmetic is modulo the public prime 2^256 + 297, the smallest above 2^256, so that every 32-byte secret is an
element. A share is the value of a random polynomial of degree threshold - 1 at the seat of its owner (1, 2, ...); the
secret is its value at 0 (A. Shamir, "How to Share a Secret", CACM 1979). Whole numbers of Python beat arrays of
machine words here: 50 shares of 34-of-50 take 0.3 ms, and all secrets of a round share one set of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from privacy.errors import SecureAggregationError

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33

Entropy = Callable[[int], bytes]


def split(secret: bytes, seats: Sequence[int], threshold: int, entropy: Entropy) -> list[bytes]:
    """Return one share for each seat.

    Args:
        seats: distinct whole numbers from 1.
        entropy: gives so many random bytes.

    Raises:
        SecureAggregationError: the secret has another length, or no `threshold` seats are there.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(set(seats)) == len(seats) or min(seats) < 1:
        raise SecureAggregationError(
            f"a secret of {len(secret)} bytes cannot be shared {threshold} of {len(seats)}; give {SECRET_BYTES} "
            "bytes, distinct seats from 1 and at least as many as the threshold"
        )
    falling = [_element(entropy) for _ in range(threshold - 1)]
    falling.append(int.from_bytes(secret, "big"))
    return [_at(falling, seat).to_bytes(SHARE_BYTES, "big") for seat in seats]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of which shares by seat are given; more than `threshold` of them are left aside.

    Raises:
        SecureAggregationError: there are too few, or they are no shares of one secret of 32 bytes.
    """
    if len(shares) < threshold:
        raise SecureAggregationError(f"{len(shares)} shares of a secret are there; it takes {threshold}")
    seats = tuple(sorted(shares)[:threshold])
    values = (int.from_bytes(shares[seat], "big") for seat in seats)
    secret = sum(weight * value for weight, value in zip(_weights(seats), values, strict=True)) % PRIME
    if secret.bit_length() > 8 * SECRET_BYTES:
        raise SecureAggregationError("the shares belong to no secret of 32 bytes; some of them are false")
    return secret.to_bytes(SECRET_BYTES, "big")


def is_share(share: bytes) -> bool:
    """Return whether bytes are one spelling of an element of the field."""
    return len(share) == SHARE_BYTES and int.from_bytes(share, "big") < PRIME


def _element(entropy: Entropy) -> int:
    """Draw uniformly below the prime: 64 bytes modulo a prime of 257 bits are off by less than 2^-254."""
    return int.from_bytes(entropy(64), "big") % PRIME


def _at(falling: Sequence[int], seat: int) -> int:
    """Evaluate a polynomial whose coefficients fall in degree (Horner)."""
    value = 0
    for coefficient in falling:
        value = (value * seat + coefficient) % PRIME
    return value


@lru_cache(maxsize=64)
def _weights(seats: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights at 0: product over others of other / (other - own)."""
    weights = []
    for own in seats:
        above = below = 1
        for other in seats:
            if other != own:
                above = above * other % PRIME
                below = below * (other - own) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
