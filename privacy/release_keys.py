"""The key that signs what one run folder releases: a pair on P-256 with a certificate that it signs itself.

A federation of several processes signs with its coordinator's key instead, whose certificate its authority issued.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from privacy.certificate_requests import key_pem, new_key
from privacy.key_files import create_private, open_folder, read_private
from privacy.signing import ReleaseSigner

RELEASE_KEY: Final = "release.key"
_VALID: Final = timedelta(days=3650)
"""Nobody checks it: a signer counts for as long as its certificate is listed (`privacy.signing`)."""


def release_signer(keys: Path, federation: str, now: datetime) -> ReleaseSigner:
    """Open the release key in the folder `keys`, and make one where none is there yet.

    Raises `CertificateError` for a pair that does not belong together, `KeyringError` for a folder or a file that
    others can change or read.
    """
    path = keys / RELEASE_KEY
    if read_private(path) is None:
        open_folder(keys, create=True)
        _make(path, now)
    return ReleaseSigner.open(path, federation)


def _make(path: Path, now: datetime) -> None:
    """Write the certificate first, so that a key is never without one; who is cut off between leaves no key."""
    key = new_key()
    path.with_suffix(".pem").unlink(missing_ok=True)
    create_private(path.with_suffix(".pem"), _self_signed(key, now).public_bytes(Encoding.PEM))
    create_private(path, key_pem(key))


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedrank release key")])
    return (
        x509.CertificateBuilder(subject_name=name, issuer_name=name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
