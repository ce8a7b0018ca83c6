"""One HTTP/2 connection of a caller (RFC 9113), as a machine of bytes without a socket: unary gRPC calls.

It keeps what a server may ask of a caller: at most MAX_CONCURRENT_STREAMS calls at once, flow control of the
connection and of each call, no new call after GOAWAY. A call is few instructions, so that one core can
overload a server.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from evaluation.errors import LoadError
from evaluation.load.hpack import CallHeaders, HeaderReader

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK, PADDED, PRIORITY = 0x1, 0x4, 0x1, 0x8, 0x20
_MAX_STREAMS, _STREAM_WINDOW, _MAX_FRAME = 3, 4, 5
_FIRST_WINDOW: Final = 65_535
_OUR_WINDOW: Final = 1 << 24
_GIVE_BACK: Final = 1 << 20
_CANCEL: Final = 8
_REFUSED_STREAM: Final = 7

RESET, LOST, EXPIRED, UNSENT, REFUSED = 100, 101, 102, 103, 104
"""How a call ended that got no gRPC status: reset by the server, connection lost, deadline passed, never written,
refused by the server before it was looked at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: the caller's token, the gRPC status or one of the numbers above, and the message."""

    token: int
    status: int
    body: bytes


@dataclass(slots=True)
class _Call:
    token: int
    window: int
    body: bytes = b""


class Connection:
    """What one connection has in flight. `outgoing` holds the bytes to write; the holder takes them away."""

    def __init__(self, headers: CallHeaders) -> None:
        """Greet with windows so large that the server never waits for us."""
        self._headers = headers
        self._reader = HeaderReader()
        self._calls: dict[int, _Call] = {}
        self._by_token: dict[int, int] = {}
        self._held: deque[tuple[int, bytes]] = deque()
        self._next = 1
        self._limit = 1 << 30
        self._window = _FIRST_WINDOW
        self._call_window = _FIRST_WINDOW
        self._longest = 16_384
        self._unread = 0
        self._input = b""
        self._block = b""
        self._leaving = False
        settings = _setting(2, 0) + _setting(_STREAM_WINDOW, _OUR_WINDOW)
        grown = (_OUR_WINDOW - _FIRST_WINDOW).to_bytes(4, "big")
        self.outgoing = [PREFACE, _frame(SETTINGS, 0, 0, settings), _frame(WINDOW_UPDATE, 0, 0, grown)]

    @property
    def in_flight(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    @property
    def leaving(self) -> bool:
        """Whether the server has said goodbye: calls in flight end, none may begin."""
        return self._leaving or self._next >= 1 << 31

    @property
    def free(self) -> int:
        """How many calls may begin now."""
        return 0 if self.leaving else self._limit - len(self._calls)

    def begin(self, token: int, message: bytes, timeout_s: float) -> None:
        """Begin one call; `message` has its five bytes of gRPC framing already."""
        number = self._next
        self._next += 2
        self._calls[number] = _Call(token, self._call_window)
        self._by_token[token] = number
        self.outgoing.append(_frame(HEADERS, END_HEADERS, number, self._headers.block(timeout_s)))
        size = len(message)
        if self._held or size > self._window or size > self._call_window or size > self._longest:
            self._held.append((number, message))
            self._push()
            return
        self._window -= size
        self.outgoing.append(_frame(DATA, END_STREAM, number, message))

    def cancel(self, token: int) -> None:
        """Give one call up, as a caller does whose deadline has passed."""
        number = self._by_token.pop(token)
        del self._calls[number]
        self.outgoing.append(_frame(RST_STREAM, 0, number, _CANCEL.to_bytes(4, "big")))

    def holds(self, token: int) -> bool:
        """Whether this call is in flight here."""
        return token in self._by_token

    def lose(self) -> list[Answer]:
        """End every call, because the connection is gone."""
        lost = [Answer(call.token, LOST, b"") for call in self._calls.values()]
        self._calls.clear()
        self._by_token.clear()
        return lost

    def feed(self, received: bytes) -> list[Answer]:
        """Take bytes from the server; return the calls that ended by them.

        Raises:
            LoadError: the server sent what this caller does not read.
        """
        data = self._input + received if self._input else received
        answers: list[Answer] = []
        place, end = 0, len(data)
        while end - place >= 9:
            size = int.from_bytes(data[place : place + 3], "big")
            if end - place < 9 + size:
                break
            number = int.from_bytes(data[place + 5 : place + 9], "big") & 0x7FFFFFFF
            payload = data[place + 9 : place + 9 + size]
            self._take(data[place + 3], data[place + 4], number, payload, answers)
            place += 9 + size
        self._input = data[place:]
        return answers

    def _take(self, kind: int, flags: int, number: int, payload: bytes, answers: list[Answer]) -> None:
        if kind == DATA:
            self._receive(number, payload)
            if flags & END_STREAM:
                self._end(number, RESET, answers)
        elif kind in (HEADERS, CONTINUATION):
            if flags & (PADDED | PRIORITY):
                raise LoadError(
                    f"the server sent a header frame with flags {flags:#x}; this caller reads plain ones"
                )
            self._read_headers(flags, number, payload, answers)
        elif kind == RST_STREAM:
            code = int.from_bytes(payload, "big")
            self._end(number, REFUSED if code == _REFUSED_STREAM else RESET, answers)
        elif kind == SETTINGS and not flags & ACK:
            self._settle(payload)
        elif kind == PING and not flags & ACK:
            self.outgoing.append(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._leave(int.from_bytes(payload[:4], "big"), answers)
        elif kind == WINDOW_UPDATE:
            self._grow(number, int.from_bytes(payload, "big"))

    def _receive(self, number: int, payload: bytes) -> None:
        self._unread += len(payload)
        if self._unread > _GIVE_BACK:
            self.outgoing.append(_frame(WINDOW_UPDATE, 0, 0, self._unread.to_bytes(4, "big")))
            self._unread = 0
        call = self._calls.get(number)
        if call is not None:
            call.body += payload

    def _read_headers(self, flags: int, number: int, payload: bytes, answers: list[Answer]) -> None:
        """Read a block once it is whole; a call ends with the block that names its status."""
        self._block += payload
        if not flags & END_HEADERS:
            return
        block, self._block = self._block, b""
        status = self._reader.status(block)
        if status is not None:
            self._end(number, status, answers)

    def _end(self, number: int, status: int, answers: list[Answer]) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            del self._by_token[call.token]
            answers.append(Answer(call.token, status, call.body))

    def _settle(self, payload: bytes) -> None:
        for place in range(0, len(payload), 6):
            name = int.from_bytes(payload[place : place + 2], "big")
            value = int.from_bytes(payload[place + 2 : place + 6], "big")
            if name == _MAX_STREAMS:
                self._limit = value
            elif name == _MAX_FRAME:
                self._longest = value
            elif name == _STREAM_WINDOW:
                for call in self._calls.values():
                    call.window += value - self._call_window
                self._call_window = value
        self.outgoing.append(_frame(SETTINGS, ACK, 0, b""))
        self._push()

    def _leave(self, last: int, answers: list[Answer]) -> None:
        """Begin nothing more; calls that the server says it has not looked at end as refused."""
        self._leaving = True
        for number in [number for number in self._calls if number > last]:
            self._end(number, REFUSED, answers)

    def _grow(self, number: int, by: int) -> None:
        if number == 0:
            self._window += by
        elif number in self._calls:
            self._calls[number].window += by
        if self._held:
            self._push()

    def _push(self) -> None:
        """Write of the messages held back what the windows allow, in the order in which they came."""
        while self._held:
            number, rest = self._held[0]
            call = self._calls.get(number)
            if call is None:
                self._held.popleft()
                continue
            size = min(len(rest), self._window, call.window, self._longest)
            if size <= 0:
                return
            self._window -= size
            call.window -= size
            flags = END_STREAM if size == len(rest) else 0
            self.outgoing.append(_frame(DATA, flags, number, rest[:size]))
            self._held.popleft()
            if size < len(rest):
                self._held.appendleft((number, rest[size:]))


def framed(message: bytes) -> bytes:
    """Return a gRPC message with its five bytes of framing: not compressed, and its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")
