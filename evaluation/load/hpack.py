"""Header blocks of a gRPC call (RFC 7541), as little of them as one kind of call needs.

A call's own headers never change, so that from the second call of a connection on they are a few bytes that name
entries of the receiver's table. Of an answer only `grpc-status` is read. Texts in Huffman's code are kept as they
came: gRPC's servers write statuses plainly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from evaluation.errors import LoadError

STATIC_NAMES: Final = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
]
TABLE_BYTES: Final = 4096
ENTRY_BYTES: Final = 32
"""What an entry counts beside its name and value."""
STATUS: Final = b"grpc-status"
_POST, _HTTP = b"\x83", b"\x86"


class CallHeaders:
    """Writes the header blocks of one connection's calls: the first names everything, later ones the table's entries.

    Only the time that is left until the deadline differs from call to call; it is written out each time, as gRPC's
    callers do.
    """

    def __init__(self, path: str, authority: str) -> None:
        """Prepare both blocks; raises `LoadError` where a text is too long for one length byte."""
        fields = (
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "fedrank-load/1"),
        )
        oldest = len(STATIC_NAMES) + 1 + len(fields)
        self._named = b"".join(b"\x40" + _plain(name) + _plain(value) for name, value in fields)
        self._entries = _POST + _HTTP + bytes(0x80 | entry for entry in range(len(STATIC_NAMES) + 1, oldest))
        self._timeout = bytes((0x0F, oldest - 0x0F))
        self._greeted = False

    def block(self, timeout_s: float) -> bytes:
        """Return the next call's block, which says that so many seconds are left for it."""
        left = _plain(f"{max(round(timeout_s * 1000), 1)}m")
        if self._greeted:
            return self._entries + self._timeout + left
        self._greeted = True
        return _POST + _HTTP + b"\x40" + _plain("grpc-timeout") + left + self._named


def _plain(text: str) -> bytes:
    if len(text) > 126:
        raise LoadError(f"a header text has {len(text)} characters; this generator writes at most 126")
    return bytes([len(text)]) + text.encode("ascii")


class HeaderReader:
    """The receiving end of one connection's header blocks; every block has to pass through it, in order."""

    def __init__(self) -> None:
        """Start with an empty table."""
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._size = 0
        self._known: dict[bytes, int | None] = {}

    def status(self, block: bytes) -> int | None:
        """Read one block; return its `grpc-status`, None where it has none."""
        if block in self._known:
            return self._known[block]
        fields, changed = self._read(block)
        value = dict(fields).get(STATUS)
        status = int(value) if value is not None else None
        if changed:
            self._known.clear()
        else:
            self._known[block] = status
        return status

    def _read(self, block: bytes) -> tuple[Sequence[tuple[bytes, bytes]], bool]:
        fields, changed, place = [], False, 0
        while place < len(block):
            byte = block[place]
            if byte & 0x80:
                index, place = _integer(block, place, 7)
                fields.append(self._entry(index))
                continue
            changed = changed or bool(byte & 0x60)
            if byte & 0xE0 == 0x20:
                size, place = _integer(block, place, 5)
                self._shrink(size)
                continue
            name_at, place = _integer(block, place, 6 if byte & 0x40 else 4)
            name, place = (self._entry(name_at)[0], place) if name_at else _text(block, place)
            value, place = _text(block, place)
            fields.append((name, value))
            if byte & 0x40:
                self._add(name, value)
        return fields, changed

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if index <= len(STATIC_NAMES):
            return STATIC_NAMES[index - 1].encode(), b""
        return self._table[index - len(STATIC_NAMES) - 1]

    def _add(self, name: bytes, value: bytes) -> None:
        self._shrink(TABLE_BYTES - len(name) - len(value) - ENTRY_BYTES)
        self._table.appendleft((name, value))
        self._size += len(name) + len(value) + ENTRY_BYTES

    def _shrink(self, size: int) -> None:
        while self._table and self._size > size:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + ENTRY_BYTES


def _integer(block: bytes, place: int, bits: int) -> tuple[int, int]:
    """Read an integer with a prefix of so many bits; return it and where the next thing begins."""
    most = (1 << bits) - 1
    value, place = block[place] & most, place + 1
    if value < most:
        return value, place
    shift = 0
    while True:
        byte, place = block[place], place + 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, place


def _text(block: bytes, place: int) -> tuple[bytes, int]:
    length, place = _integer(block, place, 7)
    return block[place : place + length], place + length
