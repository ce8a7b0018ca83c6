"""Names in certificates: one spelling each, and everything else is nobody."""

from __future__ import annotations

import re
import urllib.parse

import pytest
from certificates_world import DOMAIN, name
from hypothesis import given
from hypothesis import strategies as st

from server.errors import EndpointError, Unauthenticated
from server.serving.identity import (
    MAX_NAME,
    Identity,
    Role,
    check_domain,
    check_merchant,
    read_identity,
)

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
merchants = st.text(LETTERS, min_size=1, max_size=MAX_NAME).filter(lambda text: text not in {".", ".."})


@given(merchant=merchants, role=st.sampled_from(Role))
def test_a_well_formed_name_is_read_back_as_it_was_written(merchant: str, role: Role) -> None:
    """Writing and reading are inverse, for every merchant id that can stand in a certificate."""
    identity = Identity(merchant=merchant, role=role)
    assert read_identity([identity.uri(DOMAIN)], DOMAIN) == identity
    assert check_merchant(merchant) == merchant


@given(st.text(max_size=300))
def test_any_text_is_nobody_or_exactly_the_name_that_it_spells(text: str) -> None:
    """No two spellings give one identity."""
    try:
        identity = read_identity([text], DOMAIN)
    except Unauthenticated:
        return
    assert identity.uri(DOMAIN) == text


@given(merchant=merchants, position=st.integers(0, 400), character=st.characters())
def test_a_name_with_one_character_changed_is_another_name_or_none(
    merchant: str, position: int, character: str
) -> None:
    """Slashes, percent signs, letters that look alike: each changes who it is, or makes it nobody."""
    good = name(merchant)
    place = position % len(good)
    changed = good[:place] + character + good[place + 1 :]
    if changed != good:
        try:
            identity = read_identity([changed], DOMAIN)
        except Unauthenticated:
            return
        assert identity != Identity(merchant=merchant, role=Role.STOREFRONT)
        assert identity.uri(DOMAIN) == changed


@given(merchant=merchants, where=st.integers(0, MAX_NAME))
def test_an_encoded_name_is_nobody(merchant: str, where: int) -> None:
    """`%2F`, `%2e` and any other encoding is not decoded and not accepted."""
    place = where % len(merchant)
    encoded = merchant[:place] + f"%{ord(merchant[place]):02x}" + merchant[place + 1 :]
    assert urllib.parse.unquote(encoded) == merchant
    with pytest.raises(Unauthenticated):
        read_identity([name(encoded)], DOMAIN)


WRONG = {
    "no scheme": f"{DOMAIN}/merchant/tea-house/storefront",
    "another scheme": f"https://{DOMAIN}/merchant/tea-house/storefront",
    "scheme in capitals": f"SPIFFE://{DOMAIN}/merchant/tea-house/storefront",
    "another domain": name(domain="other.example"),
    "a longer domain": name(domain=f"{DOMAIN}.evil.example"),
    "domain in capitals": name(domain=DOMAIN.upper()),
    "a port": name(domain=f"{DOMAIN}:443"),
    "a user": name(domain=f"someone@{DOMAIN}"),
    "no domain": name(domain=""),
    "no merchant": name(""),
    "dot": name("."),
    "two dots": name(".."),
    "slash in the merchant": name("tea/house"),
    "encoded slash": name("tea%2fhouse"),
    "space": name("tea house"),
    "line break": name("tea-house\n"),
    "null": name("tea\0house"),
    "Cyrillic letter": name("t\u0435a-house"),
    "full-width slash": name("tea\uff0fhouse"),
    "soft hyphen": name("tea\u00adhouse"),
    "overlong": name("a" * (MAX_NAME + 1)),
    "unknown role": name(role="admin"),
    "role in capitals": name(role="STOREFRONT"),
    "no role": f"spiffe://{DOMAIN}/merchant/tea-house",
    "slash at the end": name() + "/",
    "a further segment": name() + "/x",
    "query": name() + "?role=developer",
    "fragment": name() + "#x",
    "line break at the end": name() + "\n",
    "another path": f"spiffe://{DOMAIN}/shopper/tea-house/storefront",
}


@pytest.mark.parametrize("uri", WRONG.values(), ids=WRONG)
def test_a_misnamed_certificate_names_nobody_and_is_told_the_form(uri: str) -> None:
    """The refusal says what is wanted and repeats nothing of what came."""
    with pytest.raises(Unauthenticated, match=re.escape(f"spiffe://{DOMAIN}/merchant/ID/ROLE")):
        read_identity([uri], DOMAIN)


@pytest.mark.parametrize("uris", [[], [name(), name()], [name(), name("other")], [name(), "http://x"]])
def test_no_name_and_several_names_are_nobody(uris: list[str]) -> None:
    """Which of two names counts would be a matter of order, so neither does."""
    with pytest.raises(Unauthenticated):
        read_identity(uris, DOMAIN)


@pytest.mark.parametrize(
    "domain", ["", "Shop.example", "shop example", "-shop", "a" * 255, "shop/x", "\u0455hop"]
)
def test_a_trust_domain_that_no_certificate_can_hold_is_refused(domain: str) -> None:
    """At start, with what would do."""
    with pytest.raises(EndpointError, match="use lower-case letters"):
        check_domain(domain)


@pytest.mark.parametrize("merchant", ["", ".", "..", "a/b", "caf\u00e9", "a" * (MAX_NAME + 1), "a b"])
def test_a_merchant_that_no_certificate_can_hold_is_refused(merchant: str) -> None:
    """At start, with what would do."""
    with pytest.raises(EndpointError, match="cannot stand in a certificate"):
        check_merchant(merchant)
