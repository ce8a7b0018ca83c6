"""What a hostile caller does to the door, over real connections: it is refused or cut off, and others are served."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from guarded_server import open_guard, serving
from raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RANK,
    RST_STREAM,
    SETTINGS,
    Raw,
    field,
    frame,
    headers,
    message,
)

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1.ranking_pb2_grpc import RankingServiceStub
from server.serving import admission
from server.serving.guard import LocalGuard
from server.serving.limits import MAX_REQUEST_BYTES, MAX_STREAMS_PER_CONNECTION, server_options
from server.serving.quotas import STREAMS_AT_ONCE, Quota

OK, INVALID, DEADLINE, EXHAUSTED, UNIMPLEMENTED = 0, 3, 4, 8, 12
CANARY = "canary-4711"
RECORD = "/fedrank.ranking.v1.RankingService/RecordEvents"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with the bounds of every endpoint."""
    with serving(open_guard()) as port:
        yield port


@pytest.fixture
def others_are_served(port: int) -> Iterator[None]:
    """An honest caller asks all the while, and every answer comes."""
    stop, failures, answers = threading.Event(), [], []

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub: Any = RankingServiceStub(channel)  # type: ignore[no-untyped-call]
            while not stop.wait(0.01):
                try:
                    answers.append(stub.Rank(pb.RankRequest(), timeout=10))
                except grpc.RpcError as error:
                    failures.append(error)

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        yield
        time.sleep(0.05)
        stop.set()
        asking.result(20)
    assert answers
    assert not failures


def options(**changed: int) -> list[tuple[str, int]]:
    """The server's options, some of them changed; a double underscore stands for a dot."""
    return list(
        {**dict(server_options()), **{f"grpc.{k.replace('__', '.')}": v for k, v in changed.items()}}.items()
    )


def call(port: int, block: bytes, body: bytes | None = None) -> int | None:
    """Status of one call made by hand; without a body none is ever sent."""
    with Raw(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, block))
        if body is not None:
            raw.send(frame(DATA, END_STREAM, 1, body))
        return raw.status(1)


BODIES: dict[str, tuple[bytes, int]] = {
    "a message": (message(b""), OK),
    "nothing": (b"", INVALID),
    "noise for a message": (message(b"\xff" * 40), INVALID),
    "a truncated message": (message(b"\x22\x7f"), INVALID),
    "endless nesting": (message(b"\x2a\x7e" * 60), INVALID),
    "an overlong number": (message(b"\x18" + b"\xff" * 11), INVALID),
    "text that is not UTF-8": (message(b"\x0a\x02\xc3\x28"), INVALID),
    "a promise of 2 MiB": (b"\x00" + (2 * MAX_REQUEST_BYTES).to_bytes(4, "big"), EXHAUSTED),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES)
def test_a_malformed_message_is_refused_as_what_it_is(port: int, body: bytes, status: int) -> None:
    """Never as a fault of the endpoint, and an oversize one before it is read."""
    assert call(port, headers(), body) == status


def test_what_is_wrong_with_a_call_is_said_before_its_body_is_waited_for(port: int) -> None:
    """No deadline, one in four days, a method that does not exist: nobody has to send a message to hear it."""
    assert call(port, headers(timeout=None)) == INVALID
    assert call(port, headers(timeout="99H")) == INVALID
    assert call(port, headers(RECORD, timeout="602S")) == INVALID
    assert call(port, headers(path="/fedrank.ranking.v1.RankingService/Delete")) == UNIMPLEMENTED
    assert call(port, headers(path="/%2e%2e/Rank")) == UNIMPLEMENTED


@pytest.mark.usefixtures("others_are_served")
def test_callers_that_send_a_byte_at_a_time_end_at_their_deadline(port: int) -> None:
    """Fifty of them take no place away from others, and none outlives what it asked for."""
    with ExitStack() as stack:
        slow = [stack.enter_context(Raw(port)) for _ in range(50)]
        began = time.monotonic()
        for raw in slow:
            raw.send(frame(HEADERS, END_HEADERS, 1, headers(timeout="1S")))
        body = message(b"x" * 1000)
        for place in range(4):
            for raw in slow:
                raw.send(frame(DATA, 0, 1, body[place : place + 1]))
            time.sleep(0.2)
        assert {raw.status(1) for raw in slow} == {DEADLINE}
        assert time.monotonic() - began < 10


@pytest.mark.usefixtures("others_are_served")
def test_a_thousand_idle_connections_keep_nobody_out(port: int) -> None:
    """Half of them have not even greeted."""
    with ExitStack() as stack:
        for number in range(1000):
            stack.enter_context(Raw(port, greet=number % 2 == 0))
        time.sleep(0.5)


def test_connections_beyond_the_bound_are_closed_until_one_leaves() -> None:
    """So that file descriptors do not run out."""
    with (
        serving(open_guard(), options=options(max_allowed_incoming_connections=5)) as port,
        ExitStack() as stack,
    ):
        held = [stack.enter_context(Raw(port)) for _ in range(5)]
        assert all(raw.next_frame() for raw in held)
        with Raw(port) as refused:
            assert refused.goodbye() is None
        held[0].close()
        end = time.monotonic() + 10
        served = False
        while not served and time.monotonic() < end:
            with Raw(port) as raw:
                served = raw.next_frame() is not None
        assert served


ENDED: dict[str, tuple[dict[str, int], bool, bytes]] = {
    "that is idle": ({"max_connection_idle_ms": 200}, True, b"idle"),
    "that has reached its age": ({"max_connection_age_ms": 200}, True, b"max_age"),
    "that never greets": ({"server_handshake_timeout_ms": 200}, False, b"handshake"),
    "that acknowledges no settings": ({"http2__settings_timeout": 200}, True, b"settings_timeout"),
}


@pytest.mark.parametrize(("changed", "greet", "reason"), ENDED.values(), ids=ENDED)
def test_a_connection_is_ended(changed: dict[str, int], greet: bool, reason: bytes) -> None:
    """Each bound has a time; here it is a short one."""
    assert all(dict(server_options())[f"grpc.{name.replace('__', '.')}"] > 0 for name in changed)
    with serving(open_guard(), options=options(**changed)) as port, Raw(port, greet=greet) as raw:
        assert reason in (raw.goodbye() or b"")


@pytest.mark.usefixtures("others_are_served")
def test_a_flood_of_pings_ends_its_connection(port: int) -> None:
    """Pings are for finding out whether the other side lives."""
    with Raw(port) as raw:
        try:
            for _ in range(50):
                raw.send(frame(PING, 0, 0, b"12345678"))
                time.sleep(0.001)
        except ConnectionError:
            return
        assert raw.goodbye() in (None, b"too_many_pings")


@pytest.mark.usefixtures("others_are_served")
def test_calls_that_are_reset_at_once_and_headers_without_end_hold_nobody_up(port: int) -> None:
    """Two known floods of HTTP/2 (CVE-2023-44487 and the endless CONTINUATION)."""
    with Raw(port) as raw, Raw(port) as endless:
        for number in range(3000):
            stream = 2 * number + 1
            raw.send(
                frame(HEADERS, END_HEADERS, stream, headers()) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
            )
        endless.send(frame(HEADERS, 0, 1, headers()))
        for _ in range(20_000):
            endless.send(frame(CONTINUATION, 0, 1, field("x", "y" * 100)))


def test_headers_above_eight_kib_are_refused(port: int) -> None:
    """Before anybody sees the call."""
    with Raw(port) as raw:
        assert raw.next_frame() is not None
        raw.send(frame(SETTINGS, 1, 0))
        time.sleep(0.1)
        raw.send(frame(HEADERS, END_HEADERS, 1, headers(more=field("x", "y" * 9000))))
        raw.send(frame(DATA, END_STREAM, 1, message(b"")))
        assert raw.status(1) == EXHAUSTED


def test_streams_are_few_at_once_and_one_that_ends_makes_room(port: int) -> None:
    """A caller that opens streams and sends nothing takes 64 places and no more."""
    each = MAX_STREAMS_PER_CONNECTION
    with ExitStack() as stack:
        held = [stack.enter_context(Raw(port)) for _ in range(STREAMS_AT_ONCE // each)]
        for raw in held:
            for number in range(each):
                raw.send(frame(HEADERS, END_HEADERS, 2 * number + 1, headers(RECORD, "20S")))
        time.sleep(0.3)
        assert call(port, headers(RECORD), message(b"")) == EXHAUSTED
        held[0].send(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
        time.sleep(0.3)
        assert call(port, headers(RECORD), message(b"")) == OK


def test_a_stream_that_falls_silent_is_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its deadline; one byte at a time is silence too."""
    monkeypatch.setattr(admission, "SILENCE_SECONDS", 0.3)
    with Raw(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, headers(RECORD, "60S")))
        raw.send(frame(DATA, 0, 1, message(b"")))
        for byte in message(b"abcdef")[:4]:
            time.sleep(0.1)
            raw.send(frame(DATA, 0, 1, bytes([byte])))
        assert raw.status(1) == DEADLINE


def test_an_endless_stream_is_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many messages it is told to begin another."""
    monkeypatch.setattr(admission, "MAX_STREAM_MESSAGES", 3)
    with Raw(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, headers(RECORD, "60S")))
        raw.send(frame(DATA, 0, 1, 4 * message(b"")))
        assert raw.status(1) == INVALID


def test_a_call_that_is_cancelled_gives_its_place_back(port: int) -> None:
    """Whoever hangs up in the middle is not counted for ever."""
    with serving(LocalGuard(Quota(per_second=1e9, burst=1e9, at_once=1), time.monotonic)) as narrow:
        waiting = pb.RankRequest(query="wait").SerializeToString()
        for _ in range(5):
            with Raw(narrow) as raw:
                raw.send(frame(HEADERS, END_HEADERS, 1, headers(timeout="20S")))
                raw.send(frame(DATA, END_STREAM, 1, message(waiting)))
                time.sleep(0.1)
                raw.send(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
                time.sleep(0.1)
        assert call(narrow, headers(), message(b"")) == OK


def test_a_message_that_grows_when_it_is_unpacked_is_bound_by_its_unpacked_size(port: int) -> None:
    """8 MiB of one letter travel as 8 KiB."""
    request = pb.RankRequest(query="a" * (8 * MAX_REQUEST_BYTES))
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)]) as channel:
        stub: Any = RankingServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Rank(request, timeout=10, compression=grpc.Compression.Gzip)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


HEADERS_OF_A_CALL = {
    ":method": "POST",
    ":scheme": "http",
    ":path": RANK,
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
    "grpc-timeout": "2S",
}


def test_no_header_of_a_caller_comes_out_in_what_the_process_writes() -> None:
    """gRPC's own library writes to standard error past Python's logs: a child process shows all of it."""
    more = (
        "grpc-encoding",
        "grpc-status",
        "grpc-message",
        "grpc-trace-bin",
        "user-agent",
        "host",
        "x name",
        CANARY,
    )
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("guarded_server.py"))],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        for name in (*HEADERS_OF_A_CALL, *more):
            block = {**HEADERS_OF_A_CALL, name: f"{CANARY}\r\nplanted"}
            with Raw(port) as raw, contextlib.suppress(TimeoutError, ConnectionError):
                raw.send(frame(HEADERS, END_HEADERS, 1, b"".join(field(*one) for one in block.items())))
                raw.send(frame(DATA, END_STREAM, 1, message(CANARY.encode())))
                raw.status(1, 0.5)
        written, _ = child.communicate("")
    assert "metadata: invalid value" in written
    assert CANARY not in written
    assert "planted" not in written


def test_neither_answers_nor_logs_hold_what_a_refused_caller_sent(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all libraries, at every level: of a fault, of noise around a name, and of headers."""
    failing = pb.RankRequest(query="fail", shopper=CANARY).SerializeToString()
    with caplog.at_level(logging.DEBUG), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        logging.getLogger("planted").debug("%s is found by this test", CANARY)
        open_channel: Any = channel
        rank = open_channel.unary_unary("/fedrank.ranking.v1.RankingService/Rank")
        told = [_words(rank, body) for body in (failing, failing + b"\xff\xff", b"")]
    assert "the endpoint failed" in told[0]
    assert "is no message of this method" in told[1]
    assert not any(CANARY in words for words in told)
    assert caplog.text.count(CANARY) == 1


def _words(rank: Any, body: bytes) -> str:
    """All that a caller gets: the answer, or the refusal with its details and trailers."""
    try:
        return str(rank(body, timeout=5, metadata=[("x-name", CANARY)]))
    except grpc.RpcError as error:
        refused: Any = error
        return f"{refused.details()} {refused.trailing_metadata()}"
