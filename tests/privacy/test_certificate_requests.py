"""Signing requests: a certificate is made for the key and the name that a request proves, and for nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy.certificate_authority import CertificateAuthority, Wanted
from privacy.certificate_requests import LARGEST_REQUEST, make_request
from privacy.certificates import check_pair, read_certificate
from privacy.errors import CertificateError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
URI = "spiffe://shop.example/merchant/tea-house/node"
WANTED = Wanted(name="tea-house node", uri=URI)
REQUEST: bytes = make_request("tea-house node", URI)[0]


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """A fresh authority."""
    return CertificateAuthority.make(tmp_path / "ca", NOW)


def request_of(key: ec.EllipticCurvePrivateKey, *uris: str) -> bytes:
    """A request with any key and names."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([])).add_extension(names, False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def test_an_approved_request_gives_a_certificate_for_the_key_that_stayed(
    authority: CertificateAuthority,
) -> None:
    """Certificate and key belong together, and the name is the wanted one."""
    request, key = make_request("tea-house node", URI)
    certificate = authority.approve(request, WANTED, NOW)
    check_pair(certificate, key, NOW.timestamp())
    assert read_certificate(certificate).uris == (URI,)
    assert b"PRIVATE" not in request


@pytest.mark.parametrize("uris", [("spiffe://shop.example/merchant/pot-house/node",), (URI, URI + "2")])
def test_a_request_with_another_name_or_one_more_is_refused(
    authority: CertificateAuthority, uris: tuple[str, ...]
) -> None:
    """The authority never signs a name that nobody asked about."""
    with pytest.raises(CertificateError, match="another participant's"):
        authority.approve(request_of(ec.generate_private_key(ec.SECP256R1()), *uris), WANTED, NOW)


def test_a_request_with_a_key_of_another_curve_is_refused(authority: CertificateAuthority) -> None:
    """Everything else in a federation is P-256."""
    with pytest.raises(CertificateError, match="P-256"):
        authority.approve(request_of(ec.generate_private_key(ec.SECP384R1()), URI), WANTED, NOW)


def test_a_request_whose_signature_is_anothers_is_refused(authority: CertificateAuthority) -> None:
    """Who has no private key gets no certificate for its public half."""
    request, _ = make_request("x", URI)
    der = bytearray(x509.load_pem_x509_csr(request).public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(CertificateError, match="signed by"):
        authority.approve(forged, WANTED, NOW)


def test_a_request_that_is_too_long_is_not_read(authority: CertificateAuthority) -> None:
    """The bound stands before the parser."""
    with pytest.raises(CertificateError, match="too long"):
        authority.approve(b" " * (LARGEST_REQUEST + 1), WANTED, NOW)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damaged=st.binary(max_size=400)
    | st.builds(
        lambda at, byte: b"".join([REQUEST[:at], bytes([byte]), REQUEST[at + 1 :]]),
        st.integers(min_value=0, max_value=400),
        st.integers(min_value=0, max_value=255),
    )
)
def test_damaged_requests_are_refused_in_words(authority: CertificateAuthority, damaged: bytes) -> None:
    """Either the request means what it meant, or `CertificateError`."""
    try:
        certificate = authority.approve(damaged, WANTED, NOW)
    except CertificateError:
        return
    assert read_certificate(certificate).uris == (URI,)
