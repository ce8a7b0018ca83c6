"""Reads the certificate of a federation's member as the coordinator needs it: its bytes and its public key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from privacy.certificates import UNREADABLE
from privacy.errors import CertificateError

FORMER: Final = "_former"
"""Name among the files of members, which no merchant can have: certificates that were given up, for as long as they
would be valid, so that whoever shows one is told why it counts no more."""


@dataclass(frozen=True, kw_only=True)
class MemberCertificate:
    """One certificate: DER; its public key as PEM; issuer (DER of the name) and serial number."""

    certificate: bytes
    public_key: bytes
    issuer: bytes
    serial: int

    @classmethod
    def read(cls, pem: bytes) -> Self:
        """Read the first certificate of a PEM text; raises `CertificateError` where there is none."""
        try:
            read = x509.load_pem_x509_certificate(pem)
            public_key = read.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        except UNREADABLE as error:
            raise CertificateError("the certificate cannot be read; issue it anew") from error
        return cls(
            certificate=read.public_bytes(Encoding.DER),
            public_key=public_key,
            issuer=read.issuer.public_bytes(),
            serial=read.serial_number,
        )
