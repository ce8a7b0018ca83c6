"""Open a text file, plain or gzip, and turn what can go wrong with its bytes into one readable error."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from simulation.data.errors import UnreadableFile


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file (a byte order mark is skipped, line ends are left to the csv module).

    Raises:
        UnreadableFile: absent, cut short, or not UTF-8; also where that shows only while it is read.
    """
    try:
        with _opened(path) as lines:
            yield lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise undecodable(path) from error


def undecodable(path: Path) -> UnreadableFile:
    """Return the error for bytes that are not the text they should be (the decoder's own words quote content)."""
    return UnreadableFile(
        f"{path.name} cannot be decoded: it must be whole and UTF-8; check the download, or convert it with iconv"
    )


def first_line(path: Path) -> str:
    """Return the first line without its line end; `UnreadableFile` where it is empty."""
    with open_text(path) as lines:
        line = lines.readline()
    if not line.strip():
        raise UnreadableFile(
            f"{path.name} starts with an empty line or is empty; its first line must be the header"
        )
    return line.rstrip("\r\n")


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")
