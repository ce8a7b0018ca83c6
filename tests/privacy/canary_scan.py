"""Looks for canaries: words made for one test that must not be found where nobody may read them.

A canary is found in every form in which software writes text down by accident: several encodings, hexadecimal,
base64, escapes; in the names of files; and inside what is compressed or laid out in pages.
"""

from __future__ import annotations

import base64
import io
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

_DEPTH: Final = 3
"""How many layers of compression are opened, one inside the other."""

_LARGEST: Final = 1 << 26
"""Bytes of one compressed stream that are looked at."""

_STREAMS: Final = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]|PK\x03\x04", re.DOTALL)
_ZIP_HEADER: Final = 30


@dataclass(frozen=True, kw_only=True, order=True)
class Hit:
    """A canary in a file: by its name, in which form, inside which layers (`gzip`, `rows of SQLite`)."""

    file: Path
    canary: str
    form: str
    inside: tuple[str, ...] = ()


def scan(places: list[Path], canaries: Mapping[str, str]) -> list[Hit]:
    """Return every hit in files and folders, once per file, canary, form and layer.

    `canaries` are names with words of at least 12 small Latin letters, which are found whatever stands around them.
    """
    forms = {name: _forms(word) for name, word in canaries.items()}
    files = [file for place in places for file in _files(place)]
    hits = {hit for file in files for hit in _in_file(file, forms)}
    return sorted(hits)


def content_of(file: Path) -> bytes:
    """What is in a file now; nothing if a running database has removed it since it was listed."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def _in_file(file: Path, forms: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hit]:
    for name, form in _found(str(file).encode(), forms):
        yield Hit(file=file, canary=name, form=form, inside=("name",))
    for inside, layer in _layers(content_of(file)):
        for name, form in _found(layer, forms):
            yield Hit(file=file, canary=name, form=form, inside=inside)


def _found(data: bytes, forms: Mapping[str, Mapping[str, bytes]]) -> Iterator[tuple[str, str]]:
    lower, joined = data.lower(), data.translate(None, b"\r\n")
    for name, patterns in forms.items():
        for form, pattern in patterns.items():
            if pattern in (joined if form.startswith("base64") else lower):
                yield name, form


def _forms(word: str) -> dict[str, bytes]:
    """Return the patterns of a word; those without base64 are looked for in lower case."""
    if not re.fullmatch(r"[a-z]{12,}", word):
        raise ValueError("a canary needs at least 12 small Latin letters and nothing else")
    plain = word.encode()
    patterns = {
        "utf-8": plain,
        "utf-16le": word.encode("utf-16le"),
        "utf-16be": word.encode("utf-16be"),
        "hex": plain.hex().encode(),
        "hex of utf-16le": word.encode("utf-16le").hex().encode(),
        "url-encoded": "".join(f"%{byte:02x}" for byte in plain).encode(),
        "backwards": plain[::-1],
    }
    for shift in range(3):
        patterns[f"base64 at {shift}"] = _base64_core(plain, shift)
        patterns[f"base64 of utf-16le at {shift}"] = _base64_core(word.encode("utf-16le"), shift)
    return patterns


def _base64_core(data: bytes, shift: int) -> bytes:
    """Return those characters of base64 that `data` alone decides if `shift` bytes stand before it."""
    encoded = base64.b64encode(bytes(shift) + data)
    first = -(-shift * 8 // 6)
    return encoded[first : (shift + len(data)) * 8 // 6]


def _layers(data: bytes, inside: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Give the bytes, and everything that is packed inside them."""
    yield inside, data
    if len(inside) == _DEPTH:
        return
    for magic, name, read in _CONTAINERS:
        if data.startswith(magic):
            yield from _layers(read(data), (*inside, name))
    for match in _STREAMS.finditer(data):
        name, unpacked = _unpacked(data, match.start())
        if unpacked:
            yield from _layers(unpacked, (*inside, name))


def _unpacked(data: bytes, start: int) -> tuple[str, bytes]:
    """Return what a stream that may begin at `start` holds; nothing if none does."""
    view = memoryview(data)[start:]
    name, wbits = "zlib", zlib.MAX_WBITS
    if data.startswith(b"\x1f", start):
        name, wbits = "gzip", zlib.MAX_WBITS | 16
    elif data.startswith(b"P", start):
        names = int.from_bytes(view[26:28], "little") + int.from_bytes(view[28:30], "little")
        name, wbits, view = "zip", -zlib.MAX_WBITS, view[_ZIP_HEADER + names :]
    try:
        return name, zlib.decompressobj(wbits).decompress(view, _LARGEST)
    except zlib.error:
        return name, b""


def _rows_of_sqlite(data: bytes) -> bytes:
    """Return all values of all rows: a long one is cut into pages in the file."""
    with closing(sqlite3.connect(":memory:")) as connection:
        # A file in the mode of write-ahead logging cannot be read from memory; bytes 18 and 19 say so.
        connection.deserialize(data[:18] + b"\x01\x01" + data[20:])
        connection.text_factory = bytes
        try:
            tables = [
                name.decode()
                for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")
            ]
            rows = [row for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
        except (
            sqlite3.DatabaseError
        ):  # half of a state, whose other half is in the log: its pages are scanned as they are
            return b""
    return b"\n".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
    )


def _rows_of_parquet(data: bytes) -> bytes:
    try:
        return pl.read_parquet(io.BytesIO(data)).write_ndjson().encode()
    except pl.exceptions.PolarsError:  # not whole: its bytes are scanned as they are
        return b""


_CONTAINERS: Final[tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...]] = (
    (b"SQLite format 3\x00", "rows of SQLite", _rows_of_sqlite),
    (b"PAR1", "rows of Parquet", _rows_of_parquet),
)
