"""Pseudonyms: what stands in for a shopper's id wherever something is stored.

A pseudonym is HMAC-SHA256 of the id under a key of the holder (a merchant, or the devices), cut to 128 bits:
two holders with different keys have no value in common for one shopper, and without the key an id cannot be
guessed.
"""

import hmac
import re
from collections.abc import Iterable

from privacy.errors import PrivacyError

PSEUDONYM_HEX_CHARACTERS = 32
_MINIMUM_KEY_BYTES = 32
_is_pseudonym = re.compile(rf"[0-9a-f]{{{PSEUDONYM_HEX_CHARACTERS}}}").fullmatch


class NotAPseudonym(PrivacyError):
    """A value that should be a pseudonym is not one, so it might be a shopper's own id."""


class NotAnId(PrivacyError, ValueError):
    """A value that should be a shopper's id is not text that can be written as UTF-8."""


class Pseudonymiser:
    """Turns the ids of one holder's shoppers into pseudonyms; the same id always gives the same pseudonym."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take the holder's pseudonym key of at least 32 bytes."""
        if len(key) < _MINIMUM_KEY_BYTES:
            raise PrivacyError(f"a pseudonym key has {len(key)} bytes; it needs {_MINIMUM_KEY_BYTES}")
        self._key = key

    def of(self, shopper_id: str) -> str:
        """Return the pseudonym of one shopper: 32 lower-case hexadecimal characters; `NotAnId` if it is no text."""
        try:
            text = shopper_id.encode()
        except UnicodeEncodeError:
            raise NotAnId("a shopper's id cannot be written as UTF-8; give it as text") from None
        return hmac.digest(self._key, text, "sha256").hex()[:PSEUDONYM_HEX_CHARACTERS]


def check_pseudonyms(values: Iterable[str]) -> None:
    """Raise `NotAPseudonym` unless every value has the form of a pseudonym; the message names no value."""
    wrong = sum(1 for value in values if not (isinstance(value, str) and _is_pseudonym(value)))
    if wrong:
        raise NotAPseudonym(
            f"{wrong} values are not pseudonyms ({PSEUDONYM_HEX_CHARACTERS} lower-case hexadecimal "
            "characters): shopper ids are never stored; pass them through HolderKeys.pseudonymiser first"
        )
