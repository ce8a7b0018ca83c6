"""The field cipher and the key wrap open exactly what was sealed, where it was sealed, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.cipher import KEY_BYTES, TOKEN_OVERHEAD, FieldCipher, KeyWrap, aad_of
from privacy.errors import DecryptionError, PrivacyError

_KEY = bytes(range(KEY_BYTES))
_PLACE = aad_of("shop-1", "events", "sealed", "7", 1)
_ciphers = st.sampled_from([FieldCipher(_KEY, 3), KeyWrap(_KEY, 3)])
_parts = st.lists(st.text(max_size=8), max_size=4)


@given(_ciphers, st.binary(max_size=300), _parts)
def test_what_was_sealed_opens_in_its_own_place(
    cipher: FieldCipher, plaintext: bytes, parts: list[str]
) -> None:
    """Any bytes come back unchanged, and the token is longer by the documented overhead only."""
    token = cipher.seal(plaintext, aad_of(*parts))
    assert len(token) == len(plaintext) + TOKEN_OVERHEAD
    assert cipher.open(token, aad_of(*parts)) == plaintext


@given(_ciphers, st.binary(max_size=60), st.data())
def test_any_flipped_bit_is_refused(cipher: FieldCipher, plaintext: bytes, data: st.DataObject) -> None:
    """One flipped bit anywhere, in header, nonce, ciphertext or tag, is found."""
    token = bytearray(cipher.seal(plaintext, _PLACE))
    bit = data.draw(st.integers(0, 8 * len(token) - 1))
    token[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        cipher.open(bytes(token), _PLACE)


@given(_ciphers, st.binary(max_size=60), st.data())
def test_a_cut_or_lengthened_token_is_refused(
    cipher: FieldCipher, plaintext: bytes, data: st.DataObject
) -> None:
    """Neither a prefix of a token nor a token with bytes after it opens."""
    token = cipher.seal(plaintext, _PLACE)
    kept = data.draw(st.integers(0, len(token) - 1))
    for wrong in (token[:kept], token + b"\0"):
        with pytest.raises(DecryptionError):
            cipher.open(wrong, _PLACE)


@given(_ciphers, _parts, _parts)
def test_a_token_opens_nowhere_else(cipher: FieldCipher, here: list[str], there: list[str]) -> None:
    """Associated data that differs in any part, or only in where the parts are divided, is another place."""
    token = cipher.seal(b"secret", aad_of(*here))
    if here == there:
        assert cipher.open(token, aad_of(*there)) == b"secret"
        return
    with pytest.raises(DecryptionError):
        cipher.open(token, aad_of(*there))


def test_parts_of_associated_data_cannot_run_into_each_other() -> None:
    """The same characters divided otherwise are other associated data."""
    encodings = {
        aad_of("ab", "c"),
        aad_of("a", "bc"),
        aad_of("abc"),
        aad_of("ab", "c", ""),
        aad_of("", "ab", "c"),
    }
    assert len(encodings) == 5


@pytest.mark.parametrize(
    "other",
    [FieldCipher(bytes(KEY_BYTES), 3), FieldCipher(_KEY, 4), KeyWrap(_KEY, 3)],
    ids=["key", "id", "kind"],
)
def test_another_key_key_id_or_kind_of_cipher_does_not_open_a_token(other: FieldCipher) -> None:
    """A token belongs to one key, under one id, in one format; the error shows no plaintext."""
    token = FieldCipher(_KEY, 3).seal(b"bought a red lamp", _PLACE)
    with pytest.raises(DecryptionError) as refusal:
        other.open(token, _PLACE)
    assert "lamp" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_equal_plaintexts_give_different_tokens() -> None:
    """Nobody sees from the stored bytes that a shopper did the same thing twice."""
    cipher = FieldCipher(_KEY, 3)
    assert len({cipher.seal(b"same", _PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize("size", [0, 16, 24, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    """Only 256-bit keys are accepted, although the library would take shorter ones."""
    with pytest.raises(PrivacyError, match=f"{size} bytes"):
        FieldCipher(bytes(size), 1)


def test_gcm_siv_is_the_one_of_the_standard() -> None:
    """RFC 8452, appendix C.2, first vector with a plaintext: 8 bytes, no associated data, 256-bit key.

    The token format adds its header to the associated data, so the vector is checked on the library's
    primitive, and a token of `FieldCipher` is then opened with that primitive.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    key, nonce = bytes.fromhex("01" + "00" * 31), bytes.fromhex("03" + "00" * 11)
    expected = bytes.fromhex("c2ef328e5c71c83b843122130f7364b761e0b97427e3df28")
    assert AESGCMSIV(key).encrypt(nonce, bytes.fromhex("01" + "00" * 7), None) == expected
    token = FieldCipher(key, 5).seal(b"\x01", b"place")
    assert AESGCMSIV(key).decrypt(token[5:17], token[17:], token[:5] + b"place") == b"\x01"
    assert token[:5] == b"\x01\x00\x00\x00\x05"
