"""The names in the certificates of a federation's processes, after the manner of SPIFFE (https://spiffe.io).

`spiffe://DOMAIN/merchant/ID/node` is a merchant's node, `spiffe://DOMAIN/coordinator` the coordinator. There is one
spelling of every name: no percent-encoding, no case folding, no Unicode, no empty segment.
"""

from __future__ import annotations

import re
from typing import Final

from privacy.errors import CertificateError

MAX_NAME: Final = 128
"""Longest merchant id in a certificate, in characters."""

DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?", re.ASCII)
MERCHANT: Final = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9._-]{{1,{MAX_NAME}}}", re.ASCII)


def node_uri(domain: str, merchant: str) -> str:
    """The name of a merchant's node; raises `CertificateError` for a domain or an id that cannot stand in it."""
    if not MERCHANT.fullmatch(merchant):
        raise CertificateError(
            f"the merchant id {merchant!r} cannot stand in a certificate; use 1 to {MAX_NAME} letters without "
            "accents, digits, dots, dashes and underscores"
        )
    return f"spiffe://{_checked(domain)}/merchant/{merchant}/node"


def coordinator_uri(domain: str) -> str:
    """The name of the coordinator; raises `CertificateError` for a domain that cannot stand in it."""
    return f"spiffe://{_checked(domain)}/coordinator"


def _checked(domain: str) -> str:
    if not DOMAIN.fullmatch(domain):
        raise CertificateError(
            f"the trust domain is {domain!r}; use lower-case letters, digits, dots and dashes, such as shop.example"
        )
    return domain
