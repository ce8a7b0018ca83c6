"""Signatures of a holder: verified by the public key alone, and by nothing that is not exactly what was signed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import PrivacyError
from privacy.keyring import Keyring
from privacy.receipts import Signer, verify


def test_signatures_are_those_of_the_standard() -> None:
    """RFC 8032, section 7.1, test 2."""
    signer = Signer(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert signer.public_key.hex() == public
    assert signer.sign(b"\x72").hex() == signature


@given(st.binary(max_size=100), st.data())
def test_any_flipped_bit_is_seen(message: bytes, data: st.DataObject) -> None:
    """In the message, the signature or the public key."""
    signer = Signer(bytes(32))
    parts = [bytearray(signer.public_key), bytearray(message), bytearray(signer.sign(message))]
    assert verify(*map(bytes, parts))
    part = data.draw(st.sampled_from([part for part in parts if part]))
    bit = data.draw(st.integers(0, 8 * len(part) - 1))
    part[bit // 8] ^= 1 << bit % 8
    assert not verify(*map(bytes, parts))


def test_a_holder_signs_with_the_same_key_for_ever_and_no_other_holder_does(tmp_path: Path) -> None:
    """What was signed before a restart is verified after it."""
    keyring = Keyring.open(tmp_path / "keys")
    signature = keyring.holder("shop-1").signer.sign(b"receipt")
    again = Keyring.open(tmp_path / "keys")
    assert verify(again.holder("shop-1").signer.public_key, b"receipt", signature)
    assert not verify(again.holder("shop-2").signer.public_key, b"receipt", signature)
    assert repr(again.holder("shop-1").signer) == f"Signer({again.holder('shop-1').signer.public_key.hex()})"


def test_what_is_no_key_or_seed_is_refused() -> None:
    """A public key of the wrong length verifies nothing; a seed of the wrong length signs nothing."""
    assert not verify(b"short", b"", bytes(64))
    with pytest.raises(PrivacyError, match="31 bytes"):
        Signer(bytes(31))
