"""Looks whether a value can travel to the ranking endpoint, and says what is wrong with one that cannot.

What the endpoint bounds beyond that (lengths, the largest list) is the endpoint's to refuse: a request that names
every field at fault comes back as `RequestRefused`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from client.ranking_errors import RankingError
from proto.ranking_bounds import MAX_TIMESTAMP

LARGEST_NUMBER = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Checks of the fields of one kind of object; `error` is raised, with the field's name and never an id."""

    error: type[RankingError]
    of: str

    def text(self, **fields: Any) -> None:
        """Each is text that UTF-8 can write."""
        for name, value in fields.items():
            if not isinstance(value, str):
                raise self._of_type(name, value, "text")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self.error(
                    f"{name} of {self.of} holds half a character (a lone surrogate) that UTF-8 cannot write; "
                    "decode the text anew"
                ) from None

    def texts(self, **fields: Any) -> None:
        """Each is a list of texts."""
        for name, values in fields.items():
            self.listed(name, values)
            for value in values:
                self.text(**{name: value})

    def listed(self, name: str, values: Any) -> None:
        """It is a sequence, and no text, which would be taken letter by letter."""
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise self._of_type(name, values, "a list")

    def whole(self, name: str, value: Any, least: int, advice: str) -> None:
        """It is a whole number of at least `least` that the protocol's 32 bits hold; `advice` is the next step."""
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise self._of_type(name, value, "a whole number")
        if not least <= int(value) <= LARGEST_NUMBER:
            raise self.error(f"{name} of {self.of} is {value}; {advice}")

    def seconds(self, name: str, value: Any) -> None:
        """It is a time in Unix seconds, whole or with a fraction."""
        if not self._is_number(value):
            raise self._of_type(
                name, value, "Unix seconds, as time.time() or a datetime's .timestamp() gives"
            )
        if not 0 <= value <= MAX_TIMESTAMP:  # no value is nearer to it than NaN, which lies nowhere
            raise self.error(
                f"{name} of {self.of} is no time in Unix seconds, 0 to {MAX_TIMESTAMP} (the years 1970 to 9999); "
                "divide milliseconds by 1000"
            )

    def number(self, **fields: Any) -> None:
        """Each is a finite number, or absent."""
        for name, value in fields.items():
            if value is None:
                continue
            if not self._is_number(value):
                raise self._of_type(name, value, "a number, such as 3.9")
            if not math.isfinite(value):
                raise self.error(f"{name} of {self.of} is not finite; give a number, or leave it out")

    def truth(self, **fields: Any) -> None:
        """Each is True or False."""
        for name, value in fields.items():
            if not isinstance(value, bool):
                raise self._of_type(name, value, "True or False")

    @staticmethod
    def _is_number(value: Any) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool)

    def _of_type(self, name: str, value: Any, wanted: str) -> RankingError:
        return self.error(f"{name} of {self.of} is of type {type(value).__name__}; give {wanted}")
