"""A caller that speaks HTTP/2 by hand (RFC 9113), in order to break its rules: frames as bytes on a socket."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from evaluation.load.hpack import HeaderReader

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 0x1, 0x4
RANK = "/fedrank.ranking.v1.RankingService/Rank"


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def field(name: str, value: str) -> bytes:
    """A header, written out and kept out of the table."""
    return b"\x00" + _text(name) + _text(value)


def headers(path: str = RANK, timeout: str | None = "2S", more: bytes = b"") -> bytes:
    """The header block of a gRPC call."""
    block = field(":method", "POST") + field(":scheme", "http") + field(":path", path)
    block += (
        field(":authority", "localhost") + field("te", "trailers") + field("content-type", "application/grpc")
    )
    return block + (field("grpc-timeout", timeout) if timeout else b"") + more


def message(content: bytes) -> bytes:
    """A message with gRPC's prefix."""
    return b"\x00" + struct.pack(">I", len(content)) + content


class Raw:
    """One connection to a port of this machine, greeted."""

    def __init__(self, port: int, *, greet: bool = True) -> None:
        """Connect."""
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._read = b""
        self._reader = HeaderReader()
        if greet:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, content: bytes) -> None:
        """Write bytes."""
        self._socket.sendall(content)

    def next_frame(self, seconds: float = 10) -> tuple[int, int, bytes] | None:
        """Kind, stream and body of the next frame; None where the server has closed. `TimeoutError` if none comes."""
        self._socket.settimeout(seconds)
        head = self._exactly(9)
        if head is None:
            return None
        body = self._exactly(int.from_bytes(head[:3], "big"))
        return None if body is None else (head[3], int.from_bytes(head[5:9], "big"), body)

    def status(self, stream: int, seconds: float = 10) -> int | None:
        """The gRPC status that ends a call; None where its stream or the connection was closed without one."""
        while (found := self.next_frame(seconds)) is not None:
            kind, place, body = found
            status = self._reader.status(body) if kind == HEADERS else None
            if place == stream and status is not None:
                return status
            if kind == GOAWAY or (place == stream and kind == RST_STREAM):
                return None
        return None

    def goodbye(self, seconds: float = 10) -> bytes | None:
        """Read until the server says goodbye: its reason, or None where it just closed."""
        try:
            while (found := self.next_frame(seconds)) is not None:
                if found[0] == GOAWAY:
                    return found[2][8:]
        except ConnectionError:
            pass
        return None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        """Return the open connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _exactly(self, count: int) -> bytes | None:
        while len(self._read) < count:
            try:
                more = self._socket.recv(65_536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self._read += more
        found, self._read = self._read[:count], self._read[count:]
        return found


def _text(text: str) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text.encode()
    size -= 127
    coded = b"\x7f"
    while size >= 128:
        coded, size = coded + bytes([size % 128 + 128]), size // 128
    return coded + bytes([size]) + text.encode()
