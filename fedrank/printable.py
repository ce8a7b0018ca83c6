"""Text of others (titles, names, an endpoint's words) without what a terminal would obey instead of showing it."""

from __future__ import annotations

import re

_OBEYED = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f"  # control characters, but for the end of a line
    "\\u202a-\\u202e\\u2066-\\u2069"  # what turns the direction of writing
    "\\u2028\\u2029\\ud800-\\udfff]"  # ends of lines and paragraphs, half characters
)


def printable(text: str) -> str:
    """The text with every character that a terminal obeys as `\\uXXXX`; JSON stays JSON of the same value."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable_line(text: str) -> str:
    """The same for what has one line, such as a cell of a table."""
    return printable(text).replace("\n", "\\u000a")
