"""A signature binds content, card and federation to a signer who is listed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import CertificateError, KeyringError, SignatureError
from privacy.release_keys import RELEASE_KEY, release_signer
from privacy.signing import MAX_BYTES, ReleaseSigner, Signature, Signers, joined

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CONTENT, CARD = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ReleaseSigner:
    """Signs for the federation `toy`."""
    return release_signer(tmp_path_factory.mktemp("keys"), "toy", NOW)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> ReleaseSigner:
    """Signs for the same federation, and is not listed."""
    return release_signer(tmp_path_factory.mktemp("other"), "toy", NOW)


def accepted(signers: Signers, signature: Signature, **other: str) -> str:
    """Check a signature as that of the toy version, or of another."""
    wanted = {"content_hash": CONTENT, "card_hash": CARD, "federation": "toy", **other}
    return signers.check(signature, **wanted)


def test_what_a_listed_signer_signed_is_accepted_after_a_round_trip(signer: ReleaseSigner) -> None:
    """The record is JSON; the signer is told by name and fingerprint."""
    record = signer.sign(content_hash=CONTENT, card_hash=CARD).to_bytes()
    told = accepted(Signers.read(signer.certificate), Signature.from_bytes(record))
    assert "fedrank release key" in told and "certificate " in told


@pytest.mark.parametrize("what", ["content_hash", "card_hash", "federation"])
def test_a_signature_says_nothing_of_another_content_card_or_federation(
    signer: ReleaseSigner, what: str
) -> None:
    """Neither where the record tells the truth, nor where it is rewritten to what is wanted."""
    signers, signature = Signers.read(signer.certificate), signer.sign(content_hash=CONTENT, card_hash=CARD)
    other = "c" * 64
    with pytest.raises(SignatureError, match="the signature is for"):
        accepted(signers, signature, **{what: other})
    with pytest.raises(SignatureError, match="is not that of"):
        accepted(signers, replace(signature, **{what: other}), **{what: other})


def test_a_signer_who_is_not_listed_is_refused_under_its_own_and_anothers_certificate(
    signer: ReleaseSigner, stranger: ReleaseSigner
) -> None:
    """The message names who signed; borrowing a listed certificate does not help."""
    signers, signature = Signers.read(signer.certificate), stranger.sign(content_hash=CONTENT, card_hash=CARD)
    with pytest.raises(SignatureError, match="none of the 1 known signers"):
        accepted(signers, signature)
    with pytest.raises(SignatureError, match="is not that of"):
        accepted(signers, replace(signature, certificate=signer.certificate.decode()))
    both = joined(signer.certificate, stranger.certificate)
    assert accepted(Signers.read(both), signature)
    assert joined(both, signer.certificate) == both


def test_the_same_key_signs_nothing_else_that_passes_as_a_version(signer: ReleaseSigner) -> None:
    """What is signed begins with words that no other signature of this project begins with."""
    fields = b"".join(
        len(part).to_bytes(4, "big") + part for part in (b"toy", CONTENT.encode(), CARD.encode())
    )
    signature = signer.sign(content_hash=CONTENT, card_hash=CARD)
    for words, passes in ((b"fedrank/model-version/v1\0" + fields, True), (fields, False)):
        value = base64.b64encode(signer.key.sign(words, ec.ECDSA(SHA256()))).decode()
        forged = replace(signature, value=value)
        if passes:
            assert accepted(Signers.read(signer.certificate), forged)
        else:
            with pytest.raises(SignatureError):
                accepted(Signers.read(signer.certificate), forged)


@given(st.binary(max_size=200) | st.sampled_from([b"{}", b'{"federation": 1}', b"null"]))
def test_any_other_record_is_refused_in_words(record: bytes) -> None:
    """Nothing that is read can do more than be refused."""
    with pytest.raises(SignatureError, match="cannot be read"):
        Signature.from_bytes(record)


def test_a_record_that_is_nested_or_long_without_end_is_refused() -> None:
    """A reader's stack and memory are bounded."""
    for record in (b"[" * MAX_BYTES, b" " * (MAX_BYTES + 1)):
        with pytest.raises(SignatureError, match="cannot be read"):
            Signature.from_bytes(record)


@pytest.mark.parametrize("word", ["certificate", "value"])
def test_a_record_with_rubbish_inside_is_refused(signer: ReleaseSigner, word: str) -> None:
    """A certificate that is none, a signature that is no base64."""
    words = json.loads(signer.sign(content_hash=CONTENT, card_hash=CARD).to_bytes())
    signature = Signature.from_bytes(json.dumps(words | {word: "rubbish"}).encode())
    with pytest.raises(SignatureError):
        accepted(Signers.read(signer.certificate), signature)


def test_a_release_key_is_made_once_private_to_its_owner_and_shown_nowhere(tmp_path: Path) -> None:
    """The second time the same pair is opened; a key that others may read is refused."""
    made = release_signer(tmp_path / "keys", "toy", NOW)
    path = tmp_path / "keys" / RELEASE_KEY
    assert path.stat().st_mode & 0o777 == 0o600
    assert release_signer(tmp_path / "keys", "toy", NOW).certificate == made.certificate
    assert "key=" not in repr(made)
    path.chmod(0o644)
    with pytest.raises(KeyringError, match="mode 0644"):
        ReleaseSigner.open(path, "toy")


def test_a_key_without_its_certificate_signs_nothing(tmp_path: Path, stranger: ReleaseSigner) -> None:
    """Absent, damaged or somebody else's: named, with what to do."""
    release_signer(tmp_path, "toy", NOW)
    path = tmp_path / RELEASE_KEY
    path.with_suffix(".pem").write_bytes(stranger.certificate)
    with pytest.raises(CertificateError, match="do not belong together"):
        ReleaseSigner.open(path, "toy")
    path.with_suffix(".pem").write_text("rubbish")
    with pytest.raises(CertificateError, match="no pair"):
        ReleaseSigner.open(path, "toy")
    with pytest.raises(CertificateError, match="no pair"):
        ReleaseSigner.open(tmp_path / "absent.key", "toy")


def test_a_key_that_was_cut_off_before_it_was_written_is_made_anew(tmp_path: Path) -> None:
    """A certificate alone is what a crash leaves; the next run signs."""
    (tmp_path / RELEASE_KEY).with_suffix(".pem").write_text("left over")
    assert release_signer(tmp_path, "toy", NOW).sign(content_hash=CONTENT, card_hash=CARD)
