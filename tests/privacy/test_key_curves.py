"""Keys that sign are on P-256 and within the dates of their authority; all others are refused in plain words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority, Wanted
from privacy.errors import CertificateError
from privacy.secagg.identity import Signer, Trusted, node_uri, statement
from privacy.signing import ReleaseSigner

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, Key] = {
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def pair(key: Key) -> tuple[bytes, bytes]:
    """A certificate of a key that it has signed itself, and the key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
    dated = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    signed = dated.sign(key, SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signed.public_bytes(Encoding.PEM), private


@pytest.mark.parametrize("name", KEYS)
def test_a_pair_of_another_kind_signs_no_round_and_no_version(tmp_path: Path, name: str) -> None:
    """The message names the curve that is wanted; a pair that fits together is not enough."""
    certificate, key = pair(KEYS[name])
    with pytest.raises(CertificateError, match="none on P-256"):
        Signer.read(certificate, key)
    (tmp_path / "release.pem").write_bytes(certificate)
    (tmp_path / "release.key").write_bytes(key)
    (tmp_path / "release.key").chmod(0o600)
    with pytest.raises(CertificateError, match="is no key on P-256"):
        ReleaseSigner.open(tmp_path / "release.key", "toy")


def test_a_certificate_counts_no_earlier_than_its_authority(tmp_path: Path) -> None:
    """An authority whose clock ran ahead: what it has issued waits for the day on which it begins itself."""
    begins = NOW + timedelta(days=10)
    authority = CertificateAuthority.make(tmp_path, begins)
    wanted = Wanted(name="node", uri=node_uri("shops.example", "north"), days=30)
    certificate, key = (path.read_bytes() for path in authority.issue([wanted], NOW))
    signer, words = Signer.read(certificate, key), statement("test", "x")
    for later, refused in ((5, True), (11, False)):
        trusted = Trusted.read(
            authority=(tmp_path / AUTHORITY).read_bytes(),
            revoked=(tmp_path / REVOKED).read_bytes(),
            domain="shops.example",
            now=(NOW + timedelta(days=later)).timestamp,
        )
        if refused:
            with pytest.raises(CertificateError, match="certificate of north is not valid yet; compare"):
                trusted.check("north", signer.certificate, words, signer.sign(words))
        else:
            trusted.check("north", signer.certificate, words, signer.sign(words))
