"""Who signs, and whose signature counts: certificates of one authority with names in the manner of SPIFFE.

A participant's process is `spiffe://DOMAIN/merchant/ID/node`, the coordinator `spiffe://DOMAIN/coordinator`. Keys are
ECDSA on P-256. Certificates travel as DER. What is signed begins with `fedrank/<what>/v1` and a zero byte, so that a
signature under one kind of statement is none under another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from privacy.certificates import (
    UNREADABLE,
    PeerCertificate,
    check_dates,
    on_p256,
    read_authorities,
    read_certificate,
    read_revoked,
)
from privacy.cipher import aad_of
from privacy.errors import CertificateError

LARGEST_CERTIFICATE: Final = 4096
"""Bytes of a certificate in DER that are read at all."""
LARGEST_SIGNATURE: Final = 80
"""Bytes of an ECDSA signature on P-256 in DER: at most 72, and a little room."""
_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}", re.ASCII)
_DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?", re.ASCII)


def check_name(name: str) -> str:
    """Return the participant's name, if it can stand in a certificate; raises `CertificateError`."""
    if not _NAME.fullmatch(name):
        raise CertificateError(
            f"the participant's name {name[:140]!r} cannot stand in a certificate; use 1 to 128 letters without "
            "accents, digits, dots, dashes and underscores"
        )
    return name


def node_uri(domain: str, name: str) -> str:
    """Return the name of a participant's process as it stands in its certificate."""
    return f"spiffe://{_checked_domain(domain)}/merchant/{check_name(name)}/node"


def node_name(certificate: bytes, domain: str) -> str:
    """Return whom a node's certificate (PEM) names within a trust domain; raises `CertificateError` for nobody."""
    uris = read_certificate(certificate).uris
    before, after = f"spiffe://{domain}/merchant/", "/node"
    if len(uris) != 1 or not (uris[0].startswith(before) and uris[0].endswith(after)):
        raise CertificateError(
            f"the node's certificate names no participant of the domain {domain}; ask the operator for another one"
        )
    return check_name(uris[0][len(before) : -len(after)])


def coordinator_uri(domain: str) -> str:
    """Return the coordinator's name as it stands in its certificate."""
    return f"spiffe://{_checked_domain(domain)}/coordinator"


def statement(what: str, *parts: str | int | bytes) -> bytes:
    """Return the bytes that are signed for a statement of one kind: its context, then length-prefixed parts."""
    return f"fedrank/{what}/v1\0".encode() + aad_of(*parts)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """One's own key with its certificate (DER)."""

    certificate: bytes
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Self:
        """Read a pair of PEM texts; raises `CertificateError` where they are no pair of P-256."""
        try:
            read, private = x509.load_pem_x509_certificate(certificate), load_pem_private_key(key, None)
        except UNREADABLE as error:
            raise CertificateError(
                "the certificate or its private key cannot be read; give both in PEM, the key without a passphrase"
            ) from error
        if not (isinstance(private, ec.EllipticCurvePrivateKey) and on_p256(private.public_key())):
            raise CertificateError(
                "the private key is none on P-256, the curve that this federation signs with; make a new pair"
            )
        if private.public_key() != read.public_key():
            raise CertificateError(
                "certificate and private key do not belong together; give both of one pair"
            )
        return cls(certificate=read.public_bytes(Encoding.DER), key=private)

    def sign(self, message: bytes) -> bytes:
        """Return the signature over a `statement` (ECDSA with SHA-256, DER)."""
        return self.key.sign(message, ec.ECDSA(SHA256()))


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """Whose word counts: certificates of one authority, for one domain, at this time.

    Attributes:
        authority: its certificate in PEM, several where it is being changed.
        revoked: (issuer, serial) of revoked certificates, as `privacy.certificates.read_revoked` gives them.
        now: the time in Unix seconds.
    """

    authority: bytes
    domain: str
    revoked: frozenset[tuple[bytes, int]]
    now: Callable[[], float]

    @classmethod
    def read(cls, *, authority: bytes, revoked: bytes, domain: str, now: Callable[[], float]) -> Self:
        """Make one from the authority's certificate and its revocation list, both PEM."""
        return cls(authority=authority, domain=domain, revoked=read_revoked(revoked, authority), now=now)

    def check(self, name: str, certificate: bytes, message: bytes, signature: bytes) -> None:
        """Raise `CertificateError` unless the node of participant `name` has signed the message."""
        self._check(name, node_uri(self.domain, name), certificate, message, signature)

    def check_coordinator(self, certificate: bytes, message: bytes, signature: bytes) -> None:
        """Raise `CertificateError` unless the coordinator has signed the message."""
        self._check("the coordinator", coordinator_uri(self.domain), certificate, message, signature)

    def _check(self, who: str, uri: str, certificate: bytes, message: bytes, signature: bytes) -> None:
        if len(certificate) > LARGEST_CERTIFICATE or len(signature) > LARGEST_SIGNATURE:
            raise CertificateError(f"the certificate or signature of {who} is too long; issue a new pair")
        read, key = _issued(certificate, self.authority, who)
        if read.uris != (uri,):
            raise CertificateError(f"the certificate given for {who} names somebody else; it must name {uri}")
        check_dates(read, self.now(), f"the certificate of {who}")
        if (read.issuer, read.serial) in self.revoked:
            raise CertificateError(f"the certificate of {who} is revoked; issue a new one if that was wrong")
        try:
            key.verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise CertificateError(f"what {who} is said to have signed was not signed by its key") from error


@lru_cache(maxsize=2048)
def _issued(
    certificate: bytes, authority: bytes, who: str
) -> tuple[PeerCertificate, ec.EllipticCurvePublicKey]:
    """Return what a certificate (DER) that an authority (PEM) has issued says, and its key.

    It is valid while its authority's own is too. What was read is remembered by the very bytes, since one certificate
    is looked at in every round; time and revocation are not.
    """
    try:
        read = x509.load_der_x509_certificate(certificate)
        key = read.public_key()
        named = read_certificate(read.public_bytes(Encoding.PEM))
    except UNREADABLE as error:
        raise CertificateError(f"the certificate of {who} cannot be read; issue it anew") from error
    issuer = next((one for one in read_authorities(authority) if _signed(read, one)), None)
    if issuer is None:
        raise CertificateError(
            f"the certificate of {who} was not issued by this federation's authority; issue it there"
        )
    if not (isinstance(key, ec.EllipticCurvePublicKey) and on_p256(key)):
        raise CertificateError(f"the certificate of {who} has no key on P-256; issue it anew")
    starts = max(named.starts, issuer.not_valid_before_utc.timestamp())
    ends = min(named.ends, issuer.not_valid_after_utc.timestamp())
    return replace(named, starts=starts, ends=ends), key


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _checked_domain(domain: str) -> str:
    if not _DOMAIN.fullmatch(domain):
        raise CertificateError(
            f"the trust domain is {domain!r}; use lower-case letters, digits, dots and dashes, such as shop.example"
        )
    return domain
