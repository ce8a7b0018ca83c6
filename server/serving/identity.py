"""Who calls: the merchant and the role that a verified certificate names, or a refusal.

A certificate names its owner in exactly one URI among its alternative names, after the manner of SPIFFE
(https://spiffe.io, X509-SVID): `spiffe://TRUST-DOMAIN/merchant/ID/ROLE`. There is one spelling of every name, so that
two names that differ in a byte are two names: no percent-encoding, no case folding, no Unicode, no empty segment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from server.errors import EndpointError, Unauthenticated

TRUST_DOMAIN: Final = "fedrank"
MAX_NAME: Final = 128
"""Longest merchant id in a certificate, in characters."""

_DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?", re.ASCII)
_MERCHANT: Final = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9._-]{{1,{MAX_NAME}}}", re.ASCII)
_NAME: Final = re.compile(r"spiffe://([^/]{1,254})/merchant/([^/]{1,128})/([a-z]{1,16})", re.ASCII)

NOT_ONE_URI = (
    "the certificate has to hold exactly one URI among its alternative names, and it is "
    "spiffe://{domain}/merchant/ID/ROLE; issue it anew, for example with `fedrank certificates make`"
)


class Role(StrEnum):
    """What a caller is there for; `authorisation.py` says what each may do."""

    STOREFRONT = "storefront"
    READER = "reader"
    RECORDER = "recorder"
    MONITOR = "monitor"
    DEVELOPER = "developer"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One kind of caller of one merchant; several certificates may name the same."""

    merchant: str
    role: Role

    def uri(self, domain: str) -> str:
        """The name as it stands in a certificate."""
        return f"spiffe://{check_domain(domain)}/merchant/{self.merchant}/{self.role}"


def read_identity(uris: Sequence[str], domain: str) -> Identity:
    """The identity that the URIs of a certificate name; raises `Unauthenticated` where it is not exactly one."""
    match = _NAME.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None or match[1] != domain or not _MERCHANT.fullmatch(match[2]) or match[3] not in set(Role):
        raise Unauthenticated(NOT_ONE_URI.format(domain=domain))
    return Identity(merchant=match[2], role=Role(match[3]))


def check_domain(domain: str) -> str:
    """The trust domain, if it can stand in a certificate; raises `EndpointError`."""
    if not _DOMAIN.fullmatch(domain):
        raise EndpointError(
            f"the trust domain is {domain!r}; use lower-case letters, digits, dots and dashes, such as shop.example"
        )
    return domain


def check_merchant(merchant: str) -> str:
    """The merchant id, if it can stand in a certificate; raises `EndpointError`."""
    if not _MERCHANT.fullmatch(merchant):
        raise EndpointError(
            f"the merchant id {merchant!r} cannot stand in a certificate; use 1 to {MAX_NAME} letters without "
            "accents, digits, dots, dashes and underscores"
        )
    return merchant
