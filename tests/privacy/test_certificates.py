"""The small authority and what is read from certificates: only what belongs together is believed."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority, Wanted
from privacy.certificates import check_pair, read_authorities, read_certificate, read_revoked
from privacy.errors import CertificateError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
URI = "spiffe://shop.example/merchant/tea-house/storefront"
CALLER = Wanted(name="caller", uri=URI)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """A fresh authority."""
    return CertificateAuthority.make(tmp_path / "ca", NOW)


def pem_of(authority: CertificateAuthority, wanted: Wanted = CALLER, *, renew: bool = False) -> bytes:
    """Issue and read."""
    return authority.issue([wanted], NOW, renew=renew)[0].read_bytes()


def test_an_issued_certificate_says_whom_it_names_and_for_how_long(authority: CertificateAuthority) -> None:
    """What is read is what was asked for."""
    read = read_certificate(pem_of(authority))
    assert read.uris == (URI,)
    assert read.ends == (NOW + timedelta(days=90)).timestamp()
    assert read.starts < NOW.timestamp()
    assert read.issuer == authority.certificate.subject.public_bytes()


def test_a_callers_certificate_is_for_callers_and_a_servers_for_servers(
    authority: CertificateAuthority,
) -> None:
    """One cannot be used as the other, and neither can issue; all are signed by the authority."""
    server = Wanted(name="server", hosts=("127.0.0.1", "localhost"))
    for wanted, purpose in (
        (CALLER, ExtendedKeyUsageOID.CLIENT_AUTH),
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        certificate = x509.load_pem_x509_certificate(pem_of(authority, wanted))
        certificate.verify_directly_issued_by(authority.certificate)
        extensions = certificate.extensions
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_private_keys_belong_to_their_owner_alone(authority: CertificateAuthority) -> None:
    """Mode 0600, from the first byte on."""
    authority.issue([CALLER], NOW)
    for key in authority.folder.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700


def test_nothing_is_overwritten_unasked(authority: CertificateAuthority) -> None:
    """Neither the authority nor a pair; a renewal replaces both files of the pair by a new key."""
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    with pytest.raises(CertificateError, match="is there already"):
        CertificateAuthority.make(authority.folder, NOW)
    first, key = authority.issue([CALLER], NOW)
    old = first.read_bytes(), key.read_bytes()
    with pytest.raises(CertificateError, match="is there already"):
        authority.issue([CALLER], NOW)
    assert (first.read_bytes(), key.read_bytes()) == old
    assert {name: (authority.folder / name).read_bytes() for name in before} == before
    authority.issue([CALLER], NOW, renew=True)
    assert first.read_bytes() != old[0]
    check_pair(first.read_bytes(), key.read_bytes(), NOW.timestamp())


@pytest.mark.parametrize("days", [0, -1, 398, 10_000])
def test_a_validity_out_of_bounds_is_refused(days: int) -> None:
    """Short by rule: what cannot be revoked everywhere at least ends."""
    with pytest.raises(CertificateError, match="1 to 397"):
        Wanted(name="x", uri=URI, days=days)


@pytest.mark.parametrize("words", [{}, {"hosts": ("a",), "uri": URI}])
def test_a_certificate_names_either_hosts_or_a_caller(words: dict[str, object]) -> None:
    """Never both, never nobody."""
    with pytest.raises(CertificateError, match="either hosts or one caller"):
        Wanted(name="x", **words)  # type: ignore[arg-type]


def test_a_host_that_is_no_name_is_refused(authority: CertificateAuthority) -> None:
    """Names are ASCII; others have such a form too."""
    with pytest.raises(CertificateError, match="no host name or address"):
        authority.issue([Wanted(name="server", hosts=("b\u00fccher.example",))], NOW)


def test_revoked_certificates_are_those_on_the_list_and_no_others(authority: CertificateAuthority) -> None:
    """By issuer and serial; twice is once."""
    revoked, kept = pem_of(authority), pem_of(authority, renew=True)
    ca = (authority.folder / "ca.pem").read_bytes()
    path = authority.folder / "revoked.pem"
    assert read_revoked(path.read_bytes(), ca) == frozenset()
    assert (authority.revoke(revoked, NOW), authority.revoke(revoked, NOW)) == (1, 1)
    found = read_revoked(path.read_bytes(), ca)
    read, other = read_certificate(revoked), read_certificate(kept)
    assert found == {(read.issuer, read.serial)}
    assert (other.issuer, other.serial) not in found
    assert authority.revoke(kept, NOW) == 2


def test_an_authority_that_is_opened_again_goes_on(authority: CertificateAuthority) -> None:
    """Same key, same list."""
    again = CertificateAuthority.open(authority.folder)
    assert again.certificate == authority.certificate
    assert again.revoke(pem_of(authority), NOW) == 1
    assert CertificateAuthority.is_in(authority.folder)


def test_a_list_of_a_foreign_authority_says_nothing(authority: CertificateAuthority, tmp_path: Path) -> None:
    """It is refused rather than half believed, although the names of the two authorities are equal."""
    other = CertificateAuthority.make(tmp_path / "other", NOW)
    foreign = (other.folder / "revoked.pem").read_bytes()
    ours = (authority.folder / "ca.pem").read_bytes()
    with pytest.raises(CertificateError, match="signed by none"):
        read_revoked(foreign, ours)
    both = ours + (other.folder / "ca.pem").read_bytes()
    pem = pem_of(authority)
    authority.revoke(pem, NOW)
    lists = foreign + (authority.folder / "revoked.pem").read_bytes()
    assert len(read_revoked(lists, both)) == 1


def test_a_certificate_of_another_authority_cannot_be_revoked_here(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    """Nor can noise."""
    other = CertificateAuthority.make(tmp_path / "other", NOW)
    for content in (pem_of(other), b"noise", b""):
        with pytest.raises(CertificateError, match="no certificate that this authority has issued"):
            authority.revoke(content, NOW)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_damaged_file_is_refused_in_our_words(
    authority: CertificateAuthority, place: int, bit: int
) -> None:
    """A flipped bit in certificate, list or pair: read as it is, or a `CertificateError`; never another error."""
    pem = pem_of(authority, renew=True)
    key = (authority.folder / "caller.key").read_bytes()
    ca = (authority.folder / "ca.pem").read_bytes()
    revoked = (authority.folder / "revoked.pem").read_bytes()

    def flipped(content: bytes) -> bytes:
        where = place % len(content)
        return content[:where] + bytes([content[where] ^ 1 << bit]) + content[where + 1 :]

    for read in (
        lambda: read_certificate(flipped(pem)),
        lambda: check_pair(pem, flipped(key), NOW.timestamp()),
        lambda: read_revoked(flipped(revoked), ca),
        lambda: read_authorities(flipped(ca)),
        lambda: authority.revoke(flipped(pem), NOW),
    ):
        try:
            read()
        except CertificateError:
            continue


def test_a_pair_that_does_not_belong_together_or_is_over_is_refused(authority: CertificateAuthority) -> None:
    """Each with what to do."""
    certificate, key = authority.issue([CALLER], NOW)
    pem, secret = certificate.read_bytes(), key.read_bytes()
    with pytest.raises(CertificateError, match="do not belong together"):
        check_pair(pem, (authority.folder / "ca.key").read_bytes(), NOW.timestamp())
    with pytest.raises(CertificateError, match="expired"):
        check_pair(pem, secret, (NOW + timedelta(days=91)).timestamp())
    with pytest.raises(CertificateError, match="cannot be read"):
        check_pair(pem, b"noise", NOW.timestamp())


def test_an_authority_whose_files_do_not_fit_is_not_opened(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    """A missing or foreign key is named."""
    with pytest.raises(CertificateError, match="fedrank certificates make"):
        CertificateAuthority.open(tmp_path / "nowhere")
    other = CertificateAuthority.make(tmp_path / "other", NOW)
    (authority.folder / "ca.pem").write_bytes((other.folder / "ca.pem").read_bytes())
    with pytest.raises(CertificateError, match="does not belong to"):
        CertificateAuthority.open(authority.folder)


def test_a_list_of_a_version_that_nobody_knows_is_refused_in_our_words(
    authority: CertificateAuthority,
) -> None:
    """The library has an error of its own for it, which is no ValueError."""
    pem = (authority.folder / REVOKED).read_bytes()
    der = x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)
    other = der.replace(b"\x02\x01\x01", b"\x02\x01\x21", 1)
    text = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(other) + b"-----END X509 CRL-----\n"
    with pytest.raises(CertificateError, match="damaged"):
        read_revoked(text, (authority.folder / AUTHORITY).read_bytes())
