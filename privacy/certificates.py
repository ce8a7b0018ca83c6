"""Reads certificates and revocation lists: who a peer says it is, until when, and who may no longer call.

Reading alone: whether a certificate was issued by an authority is checked by TLS, before any of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from privacy.errors import CertificateError

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    x509.DuplicateExtension,
)
"""What reading a damaged certificate, list, request or key raises."""


@dataclass(frozen=True, kw_only=True)
class PeerCertificate:
    """What matters of a peer's certificate.

    Attributes:
        uris: every URI among the alternative names, in order.
        issuer, serial: together the name under which it is revoked; `issuer` is the DER of a distinguished name.
        starts, ends: validity in Unix seconds, both ends included.
    """

    uris: tuple[str, ...]
    issuer: bytes
    serial: int
    starts: float
    ends: float


def read_certificate(pem: bytes) -> PeerCertificate:
    """Read the first certificate of a PEM text; raises `CertificateError` where there is none that can be read."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return PeerCertificate(
            uris=_uris(certificate),
            issuer=certificate.issuer.public_bytes(),
            serial=certificate.serial_number,
            starts=certificate.not_valid_before_utc.timestamp(),
            ends=certificate.not_valid_after_utc.timestamp(),
        )
    except UNREADABLE as error:
        raise CertificateError("the certificate cannot be read; issue it anew") from error


def on_p256(public_key: object) -> bool:
    """Whether it is the public half of a key on the one curve that everything here signs with."""
    return isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1)


def check_dates(read: PeerCertificate, now: float, what: str) -> None:
    """Raise `CertificateError` unless `what` is valid at a time in Unix seconds."""
    if now > read.ends:
        raise CertificateError(f"{what} has expired; issue a new one")
    if now < read.starts:
        raise CertificateError(
            f"{what} is not valid yet; compare this machine's clock with that of whoever issued it"
        )


def check_pair(certificate: bytes, key: bytes, now: float) -> None:
    """Raise `CertificateError` unless a certificate (PEM, the first of a chain) is valid and belongs to a key."""
    read = read_certificate(certificate)
    check_dates(read, now, "the certificate")
    try:
        private = load_pem_private_key(key, None)
    except UNREADABLE as error:
        raise CertificateError(
            "the private key cannot be read; give it in PEM, without a passphrase, in a file of mode 0600"
        ) from error
    if private.public_key() != x509.load_pem_x509_certificate(certificate).public_key():
        raise CertificateError("certificate and private key do not belong together; give both of one pair")


def read_authorities(pem: bytes) -> list[x509.Certificate]:
    """Read the certificates of authorities; raises `CertificateError` where there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE as error:
        raise CertificateError(
            "the file of certificate authorities holds no certificate in PEM that can be read; "
            "give the CA file that your client certificates were issued under"
        ) from error


def certificates_in(pem: bytes) -> list[bytes]:
    """Return each certificate of a PEM text as a text of its own; raises `CertificateError` where there is none."""
    return [one.public_bytes(Encoding.PEM) for one in read_authorities(pem)]


def read_revoked(pem: bytes, authorities: bytes) -> frozenset[tuple[bytes, int]]:
    """Read (issuer, serial) of every revoked certificate in the revocation lists of a PEM text.

    Raises `CertificateError` where there is no list, or one that none of the `authorities` (PEM) has signed.
    """
    known = read_authorities(authorities)
    lists = list(_lists(pem))
    if not lists:
        raise CertificateError(
            "the file holds no certificate revocation list in PEM; make one with `fedrank certificates revoke`"
        )
    return frozenset(entry for one in lists for entry in _entries(one, known))


def _lists(pem: bytes) -> Iterator[x509.CertificateRevocationList]:
    for found in _LIST.findall(pem):
        try:
            yield x509.load_pem_x509_crl(found)
        except UNREADABLE as error:
            raise CertificateError("a certificate revocation list is damaged; write the file anew") from error


def _entries(
    revoked: x509.CertificateRevocationList, authorities: list[x509.Certificate]
) -> list[tuple[bytes, int]]:
    if not any(_signed(revoked, authority) for authority in authorities):
        raise CertificateError(
            "a certificate revocation list is signed by none of the authorities of the CA file, so it says nothing; "
            "take the list of the authority that issues your client certificates"
        )
    issuer = revoked.issuer.public_bytes()
    return [(issuer, entry.serial_number) for entry in revoked]


def _signed(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key: Any = authority.public_key()
    try:
        return authority.subject == revoked.issuer and revoked.is_signature_valid(key)
    except (TypeError, ValueError):  # a key that signs nothing
        return False


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
