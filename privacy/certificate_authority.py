"""A small certificate authority in a folder: certificates for the endpoint and its callers, and a revocation list.

For trying out, and for a shop that has no authority of its own. Everything is ECDSA on P-256, which gRPC's TLS
accepts (Ed25519 it does not). Private keys are files of mode 0600 without a passphrase: whoever reads the folder can
be any caller.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from privacy.certificate_requests import key_of_request, key_pem, new_key
from privacy.errors import CertificateError
from privacy.key_files import open_folder, read_private, replace_private, write_private

AUTHORITY, AUTHORITY_KEY, REVOKED = "ca.pem", "ca.key", "revoked.pem"
AUTHORITY_DAYS: Final = 730
LONGEST_DAYS: Final = 397
"""Longest validity of an issued certificate: what browsers allow too."""
_BACKDATED: Final = timedelta(minutes=5)
"""Certificates begin a little earlier, for clocks that are behind."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A certificate to be issued: the file name of its pair, whom it names, and for how long.

    Attributes:
        hosts: names and addresses of a server; empty for a caller.
        uri: the name of a caller; None for a server.
    """

    name: str
    hosts: Sequence[str] = ()
    uri: str | None = None
    days: int = 90

    def __post_init__(self) -> None:
        """Refuse a validity out of bounds, and a certificate that would name nobody."""
        if not 0 < self.days <= LONGEST_DAYS:
            raise CertificateError(
                f"a validity of {self.days} days is not possible; give 1 to {LONGEST_DAYS}"
            )
        if bool(self.hosts) == (self.uri is not None):
            raise CertificateError("a certificate names either hosts or one caller; give one of them")


@dataclass(frozen=True, kw_only=True)
class CertificateAuthority:
    """An authority whose certificate, key and revocation list lie in `folder`."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path, now: datetime) -> Self:
        """Make a new one, with an empty revocation list; raises `CertificateError` where one is there already."""
        open_folder(folder, create=True)
        _refuse_existing([folder / name for name in (AUTHORITY_KEY, AUTHORITY, REVOKED)])
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedrank certificate authority")])
        builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = builder.add_extension(constraints, critical=True).add_extension(
            _usage(authority=True), critical=True
        )
        made = cls(folder=folder, certificate=certificate.sign(key, SHA256()), key=key)
        write_private(folder / AUTHORITY_KEY, key_pem(key))
        write_private(folder / AUTHORITY, made.certificate.public_bytes(Encoding.PEM))
        write_private(folder / REVOKED, made._revoking((), now))
        return made

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the one in `folder`; raises `CertificateError` where it is not there or does not fit together."""
        content = read_private(folder / AUTHORITY_KEY)
        try:
            certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
            key = load_pem_private_key(content or b"", None)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(
                f"{folder} holds no {AUTHORITY} and {AUTHORITY_KEY} that can be read; "
                "make an authority with `fedrank certificates make --out FOLDER`"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CertificateError(
                f"{AUTHORITY_KEY} in {folder} does not belong to {AUTHORITY}; restore both"
            )
        return cls(folder=folder, certificate=certificate, key=key)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether there is an authority in `folder`."""
        return (folder / AUTHORITY_KEY).exists()

    def issue(self, wanted: Sequence[Wanted], now: datetime, *, renew: bool = False) -> list[Path]:
        """Write NAME.pem and NAME.key for each, and return their paths in this order.

        Raises `CertificateError` where one of them is there already, unless `renew` lets new ones take their place;
        nothing is written then.
        """
        pairs = [(self.folder / f"{one.name}.pem", self.folder / f"{one.name}.key") for one in wanted]
        paths = [path for pair in pairs for path in pair]
        if not renew:
            _refuse_existing(paths)
        for one, (certificate, private) in zip(wanted, pairs, strict=True):
            issued, key = self.pair(one, now)
            write_private(private, key)
            write_private(certificate, issued)
        return paths

    def pair(self, wanted: Wanted, now: datetime) -> tuple[bytes, bytes]:
        """Return a new certificate and its private key (PEM); nothing is written."""
        key = new_key()
        return self._issued(wanted, key.public_key(), now), key_pem(key)

    def approve(self, request: bytes, wanted: Wanted, now: datetime) -> bytes:
        """Return a certificate (PEM) for the key of a signing request, whose private half stays where it was made.

        Raises `CertificateError` where the request is not of a key of its own, or names another than `wanted.uri`.
        """
        return self._issued(wanted, key_of_request(request, wanted.uri or ""), now)

    def revoke(self, pem: bytes, now: datetime) -> int:
        """Put a certificate (PEM) on the revocation list; returns how many are on it.

        Raises `CertificateError` where it is not one that this authority has issued to a caller: endpoints look at
        callers alone, so that any other would seem revoked and go on.
        """
        certificate = _issued_by(self.certificate, pem)
        _check_of_caller(certificate)
        path = self.folder / REVOKED
        before = x509.load_pem_x509_crl(path.read_bytes())
        entries = {entry.serial_number: entry for entry in before}
        entry = x509.RevokedCertificateBuilder(certificate.serial_number, now)
        entries.setdefault(certificate.serial_number, entry.build())
        replace_private(path, self._revoking(tuple(entries.values()), now))
        return len(entries)

    def _issued(self, wanted: Wanted, key: ec.EllipticCurvePublicKey, now: datetime) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.name[:64])])
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if wanted.hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        names = [_host(host) for host in wanted.hosts]
        if wanted.uri is not None:
            names.append(x509.UniformResourceIdentifier(wanted.uri))
        builder = _builder(subject, self.certificate.subject, key, now, wanted.days)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(authority=False), True),
            (x509.ExtendedKeyUsage([purpose]), True),
            (x509.SubjectAlternativeName(names), False),
            (issuer, False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)

    def _revoking(self, entries: Sequence[x509.RevokedCertificate], now: datetime) -> bytes:
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=self.certificate.subject,
            last_update=now,
            next_update=self.certificate.not_valid_after_utc,
            revoked_certificates=list(entries),
        )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise CertificateError(
            f"the server name {host!r} is no host name or address; give it in ASCII"
        ) from error


def _issued_by(authority: x509.Certificate, pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(authority)
    except (
        Exception
    ) as error:  # the library's own family is wide: damaged, of another type, of another issuer
        raise CertificateError(
            "the file holds no certificate that this authority has issued; give the .pem file of a caller"
        ) from error
    return certificate


def _check_of_caller(certificate: x509.Certificate) -> None:
    named = (extension.value for extension in certificate.extensions)
    purposes = [purpose for value in named if isinstance(value, x509.ExtendedKeyUsage) for purpose in value]
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise CertificateError(
            "the certificate is no caller's but an endpoint's or the authority's own, which callers would go on "
            "trusting; give MERCHANT-ROLE.pem, or renew the endpoint's pair with `fedrank certificates make --renew`"
        )


def _refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists():
            raise CertificateError(
                f"{path} is there already and stays as it is; renew it, take another folder, or move it away"
            )
