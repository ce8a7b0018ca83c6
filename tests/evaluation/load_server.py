"""A small HTTP/2 server that misbehaves by a script: what the load generator is held against."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from evaluation.load.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    framed,
)

ANSWER: Final = b"answer"
STATUS_NAME: Final = b"\x0bgrpc-status"

Script = Callable[["Peer", int, int], None]
"""What the server does with a call: the peer, its stream, and which call of the server's life it is."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def setting(name: int, value: int) -> bytes:
    """One entry of a SETTINGS frame."""
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def trailers(status: int) -> bytes:
    """A header block that says a gRPC status and changes no table."""
    text = str(status).encode()
    return b"\x00" + STATUS_NAME + bytes([len(text)]) + text


def answered(stream: int, status: int = 0) -> bytes:
    """The frames of a whole answer."""
    head = frame(HEADERS, END_HEADERS, stream, b"\x88")
    body = frame(DATA, 0, stream, framed(ANSWER)) if status == 0 else b""
    return head + body + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers(status))


class Peer:
    """One connection of the server."""

    def __init__(self, conversation: socket.socket) -> None:
        """Talk over a socket."""
        self.socket = conversation

    def answer(self, stream: int, status: int = 0) -> None:
        """Answer a call with a gRPC status."""
        self.socket.sendall(answered(stream, status))

    def reset(self, stream: int, code: int) -> None:
        """Reset a call with an HTTP/2 error code."""
        self.socket.sendall(frame(RST_STREAM, 0, stream, code.to_bytes(4, "big")))

    def say_goodbye(self, last: int) -> None:
        """Tell the caller that calls after `last` are not looked at."""
        self.socket.sendall(frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4)))


class LoadServer:
    """Listens on a free port and does with each call what its script says."""

    def __init__(self, script: Script, streams: int) -> None:
        """Allow so many calls at once on a connection."""
        self.calls = 0
        self.connections = 0
        self._script = script
        self._streams = streams
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                conversation, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(conversation,), daemon=True).start()

    def _talk(self, conversation: socket.socket) -> None:
        peer = Peer(conversation)
        try:
            conversation.sendall(frame(SETTINGS, 0, 0, setting(3, self._streams)))
            assert _read(conversation, len(PREFACE)) == PREFACE
            while True:
                head = _read(conversation, 9)
                _read(conversation, int.from_bytes(head[:3], "big"))
                stream = int.from_bytes(head[5:], "big")
                if head[3] == DATA and head[4] & END_STREAM:
                    with self._lock:
                        self.calls += 1
                        number = self.calls
                    self._script(peer, stream, number)
        except OSError:
            conversation.close()


def _read(conversation: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = conversation.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


@contextmanager
def load_server(script: Script, *, streams: int = 100) -> Iterator[LoadServer]:
    """A server while the block runs."""
    server = LoadServer(script, streams)
    try:
        yield server
    finally:
        server.close()


def later(seconds: float, act: Callable[[], None]) -> None:
    """Do something after some time, in a thread of its own."""

    def wait() -> None:
        time.sleep(seconds)
        act()

    threading.Thread(target=wait, daemon=True).start()


__all__ = [
    "ANSWER",
    "CONTINUATION",
    "LoadServer",
    "Peer",
    "answered",
    "frame",
    "later",
    "load_server",
    "setting",
]
