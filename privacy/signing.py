"""Signed model versions: who released these weights and this card, for which federation.

A signature is ECDSA on P-256 over a text of its own domain, the federation's name, the version's content hash and its
card's hash. It bears the signer's certificate, which is only a name and a key here: whom to believe is said by a list
of certificates, exact ones, so that a signer is out when its certificate leaves the list. Dates of a certificate do
not count: a version outlives them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from privacy.certificates import UNREADABLE, on_p256, read_authorities
from privacy.errors import CertificateError, SignatureError
from privacy.key_files import read_private
from privacy.secagg.identity import statement

MAX_BYTES: Final = 64 * 1024
"""Longest record of a signature that is read."""

_ALGORITHM: Final = ec.ECDSA(SHA256())


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a signer says of one model version.

    Attributes:
        federation: the name that the version was trained under.
        content_hash, card_hash: SHA-256 in hexadecimal, of weights and card together and of the card alone.
        certificate: the signer's, in PEM.
        value: the signature, DER in base64.
    """

    federation: str
    content_hash: str
    card_hash: str
    certificate: str
    value: str

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, record: bytes) -> Self:
        """Read a record; `SignatureError` where it is none."""
        try:
            words = json.loads(record) if len(record) <= MAX_BYTES else None
        except (ValueError, RecursionError) as error:
            raise _no_signature() from error
        names = set(cls.__dataclass_fields__)
        if not isinstance(words, dict) or set(words) != names:
            raise _no_signature()
        if not all(isinstance(value, str) for value in words.values()):
            raise _no_signature()
        return cls(**words)


@dataclass(frozen=True, kw_only=True)
class ReleaseSigner:
    """A key that signs model versions of one federation; printing shows no key.

    Attributes:
        certificate: in PEM; a verifier finds it in its list.
    """

    federation: str
    certificate: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def open(cls, key: Path, federation: str) -> Self:
        """Open a private key (PEM, mode 0600) and the certificate beside it: NAME.key and NAME.pem.

        Raises `CertificateError` where the pair is not there, is not on P-256, or does not belong together, and
        `KeyringError` where others may read the key.
        """
        content = read_private(key)
        try:
            certificate = key.with_suffix(".pem").read_bytes()
            private = load_pem_private_key(content or b"", None)
            public = x509.load_pem_x509_certificate(certificate).public_key()
        except (OSError, *UNREADABLE) as error:
            raise CertificateError(
                f"{key} and {key.with_suffix('.pem').name} beside it are no pair of key and certificate that can be "
                "read; give the key that signs model versions"
            ) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not on_p256(private.public_key()):
            raise CertificateError(f"{key} is no key on P-256; make one with `fedrank provision`")
        if private.public_key() != public:
            raise CertificateError(
                f"{key} and the certificate beside it do not belong together; restore both from one backup"
            )
        return cls(federation=federation, certificate=certificate, key=private)

    def sign(self, *, content_hash: str, card_hash: str) -> Signature:
        """Sign one version."""
        value = self.key.sign(_signed_words(self.federation, content_hash, card_hash), _ALGORITHM)
        return Signature(
            federation=self.federation,
            content_hash=content_hash,
            card_hash=card_hash,
            certificate=self.certificate.decode(),
            value=base64.b64encode(value).decode(),
        )


@dataclass(frozen=True, kw_only=True)
class Signers:
    """Whose signatures count: a list of certificates."""

    certificates: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(cls, pem: bytes) -> Self:
        """Read certificates in PEM; `CertificateError` where there is none."""
        return cls(certificates=tuple(read_authorities(pem)))

    def check(self, signature: Signature, *, content_hash: str, card_hash: str, federation: str) -> str:
        """Raise `SignatureError` unless one of these signers signed exactly this; return the signer's name."""
        for what, told, wanted in (
            ("federation", signature.federation, federation),
            ("content", signature.content_hash, content_hash),
            ("card", signature.card_hash, card_hash),
        ):
            if told != wanted:
                raise SignatureError(
                    f"the signature is for {what} {told[:64]!r}, and this is {wanted!r}: take the version again from "
                    "who released it"
                )
        certificate = self._listed(signature)
        self._check_value(signature, certificate)
        return signer_name(certificate)

    def _listed(self, signature: Signature) -> x509.Certificate:
        try:
            certificate = x509.load_pem_x509_certificate(signature.certificate.encode())
        except UNREADABLE as error:
            raise _no_signature() from error
        if certificate not in self.certificates:
            raise SignatureError(
                f"it is signed by {signer_name(certificate)}, who is none of the {len(self.certificates)} known "
                "signers; if you trust this signer, add its certificate to the list of signers"
            )
        return certificate

    @staticmethod
    def _check_value(signature: Signature, certificate: x509.Certificate) -> None:
        key: Any = certificate.public_key()
        words = _signed_words(signature.federation, signature.content_hash, signature.card_hash)
        try:
            if not on_p256(key):
                raise InvalidSignature
            key.verify(base64.b64decode(signature.value, validate=True), words, _ALGORITHM)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError(
                f"its signature is not that of {signer_name(certificate)}: "
                "take the version again from who released it"
            ) from error


def signer_name(certificate: x509.Certificate) -> str:
    """Return who a certificate names, and the beginning of its fingerprint."""
    name = certificate.subject.rfc4514_string()[:128]
    return f"{name!r} (certificate {certificate.fingerprint(SHA256()).hex()[:16]})"


def joined(pem: bytes, more: bytes) -> bytes:
    """Return a list of certificates with those of `more` that were not in it."""
    known = read_authorities(pem) if pem.strip() else []
    known += [one for one in read_authorities(more) if one not in known]
    return b"".join(one.public_bytes(Encoding.PEM) for one in known)


def _signed_words(federation: str, content_hash: str, card_hash: str) -> bytes:
    return statement("model-version", federation, content_hash, card_hash)


def _no_signature() -> SignatureError:
    return SignatureError(
        "its record of a signature cannot be read: take the version again from who released it"
    )
