"""Certificate signing requests: a private key is made where it is used, and only its public half travels."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from privacy.certificates import UNREADABLE, on_p256
from privacy.errors import CertificateError

LARGEST_REQUEST: Final = 16 * 1024
"""Bytes of a request that are read at all."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key on P-256, from the operating system's entropy."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PKCS #8 in PEM, without a passphrase: for a file of mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_request(name: str, uri: str) -> tuple[bytes, bytes]:
    """Return a signing request for a new key, and the private key (both PEM).

    Args:
        uri: the name that the certificate is to bear.
    """
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    builder = x509.CertificateSigningRequestBuilder(subject_name=subject).add_extension(names, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM), key_pem(key)


def key_of_request(request: bytes, uri: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a signing request (PEM), if it names `uri` and nobody else and is signed by that key.

    Raises `CertificateError` otherwise: who cannot sign with a key gets no certificate for it.
    """
    if len(request) > LARGEST_REQUEST:
        raise CertificateError(
            f"a signing request of {len(request)} bytes is too long; at most {LARGEST_REQUEST}"
        )
    try:
        read = x509.load_pem_x509_csr(request)
        key, signed = read.public_key(), read.is_signature_valid
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*UNREADABLE, InvalidSignature, x509.ExtensionNotFound) as error:
        raise CertificateError(
            "the signing request cannot be read; give the node.csr that `fedrank merchant request` wrote"
        ) from error
    if not (signed and isinstance(key, ec.EllipticCurvePublicKey) and on_p256(key)):
        raise CertificateError("the signing request is not signed by a key on P-256; make it anew")
    if list(names) != [x509.UniformResourceIdentifier(uri)]:
        raise CertificateError(f"the signing request does not name {uri} alone; it is another participant's")
    return key
