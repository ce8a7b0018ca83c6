"""Sharing of secrets: enough shares give the secret, whichever they are; fewer fit every secret alike."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from privacy.errors import SecureAggregationError
from privacy.secagg.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, combine, is_share, split

SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


@given(secret=SECRETS, seats=st.integers(1, 60), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, seats: int, data: st.DataObject) -> None:
    """Whichever seats come, and however many more."""
    threshold = data.draw(st.integers(1, seats))
    shares = split(secret, range(1, seats + 1), threshold, os.urandom)
    chosen = data.draw(st.sets(st.integers(1, seats), min_size=threshold))
    assert combine({seat: shares[seat - 1] for seat in chosen}, threshold) == secret
    assert all(is_share(share) for share in shares)


@given(one=SECRETS, other=SECRETS, threshold=st.integers(2, 12), data=st.data())
@settings(max_examples=40, deadline=None)
def test_too_few_shares_fit_every_secret_alike(
    one: bytes, other: bytes, threshold: int, data: st.DataObject
) -> None:
    """To any shares below the threshold and any secret there is a last share that makes them fit."""
    seats = sorted(data.draw(st.sets(st.integers(1, 250), min_size=threshold, max_size=threshold)))
    shares = dict(zip(seats, split(one, seats, threshold, os.urandom), strict=True))
    last = seats[-1]
    known = {seat: shares[seat] for seat in seats[:-1]}
    at_zero = {0: other.rjust(SHARE_BYTES, b"\0"), **known}
    fitting = _value_at(at_zero, last)
    assert combine({**known, last: fitting}, threshold) == other


def _value_at(points: dict[int, bytes], seat: int) -> bytes:
    """Interpolate, by a formula of its own."""
    total = 0
    for own, value in points.items():
        term = int.from_bytes(value, "big")
        for each in points:
            if each != own:
                term = term * (seat - each) * pow(own - each, -1, PRIME) % PRIME
        total += term
    return (total % PRIME).to_bytes(SHARE_BYTES, "big")


def test_one_share_of_two_is_uniform_whatever_the_secret() -> None:
    """The low byte of a share of zeros and of ones is spread over all values (chi-squared, fixed draws)."""
    rng = random.Random(3)
    for secret in (bytes(32), b"\xff" * 32):
        low = [split(secret, [1, 2], 2, rng.randbytes)[0][-1] for _ in range(6000)]
        assert chisquare(np.bincount(low, minlength=256)).pvalue > 1e-4


def test_sharing_a_sum_is_summing_shares() -> None:
    """The sharing is linear, as the algebra promises."""
    one, other = (1234).to_bytes(32, "big"), (5678).to_bytes(32, "big")
    shares = [split(secret, range(1, 6), 3, os.urandom) for secret in (one, other)]
    added = {
        seat: (sum(int.from_bytes(of[seat - 1], "big") for of in shares) % PRIME).to_bytes(33, "big")
        for seat in (1, 3, 5)
    }
    assert int.from_bytes(combine(added, 3), "big") == 6912


def test_the_modulus_is_the_prime_it_is_said_to_be() -> None:
    """Fermat's test to several bases, and no smaller candidate passes."""
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))
    assert all(pow(3, number - 1, number) != 1 for number in range(2**256 + 1, PRIME, 2))


def test_too_few_shares_are_refused() -> None:
    """The message says how many are missing."""
    shares = split(bytes(32), [1, 2, 3], 3, os.urandom)
    with pytest.raises(SecureAggregationError, match="2 shares of a secret are there; it takes 3"):
        combine({1: shares[0], 2: shares[1]}, 3)


def test_a_false_share_gives_another_secret_or_none() -> None:
    """Sharing alone does not say which share is false; commitments do."""
    shares = dict(enumerate(split(b"s" * 32, [1, 2, 3], 3, os.urandom), 1))
    shares[2] = (int.from_bytes(shares[2], "big") ^ 1).to_bytes(33, "big")
    try:
        assert combine(shares, 3) != b"s" * 32
    except SecureAggregationError as error:
        assert "false" in str(error)


@pytest.mark.parametrize(
    ("secret", "seats", "threshold"),
    [
        (b"short", [1, 2], 2),
        (bytes(32), [1, 1], 2),
        (bytes(32), [0, 1], 2),
        (bytes(32), [1, 2], 3),
        (bytes(32), [1], 0),
    ],
)
def test_a_sharing_that_nobody_could_open_is_refused(secret: bytes, seats: list[int], threshold: int) -> None:
    """Seat 0 would be the secret itself."""
    with pytest.raises(SecureAggregationError, match="cannot be shared"):
        split(secret, seats, threshold, os.urandom)
