"""Errors of the public data readers: one base class and the few ways in which reading can fail.

No message holds a row's values: a message names files, columns, counts and the next step.
"""

from __future__ import annotations

from collections.abc import Iterable


class DataError(Exception):
    """Base of every error raised while shopping data are located, mapped, read or checked."""


class MappingError(DataError):
    """A mapping (TOML file, flag or argument) holds an unknown key or a value outside its bounds."""


class UnknownLayout(DataError):
    """No events file can be told apart among the files given."""


class UnreadableFile(DataError):
    """A file is absent, empty, cut short, not UTF-8, or not of the format that its name says."""


class UnwritableFile(DataError):
    """The file for rejected rows cannot be written."""


class MissingColumn(DataError):
    """A needed or mapped column is not in the file."""

    def __init__(self, *, field: str, file: str, found: Iterable[str], mapped: str | None = None) -> None:
        """Name the absent `field` of `file`, the columns `found` there, and how to map it."""
        what = f"column '{mapped}' (mapped to {field})" if mapped else f"a column for {field}"
        super().__init__(
            f"{file} lacks {what}; columns found: {', '.join(found) or 'none'}. "
            f"Map it with --column {field}=NAME or in fedrank-data.toml."
        )
        self.field = field


class NothingUsable(DataError):
    """Every row was rejected, or filters left nothing."""
