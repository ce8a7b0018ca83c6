"""The caller's end of HTTP/2: limits, windows, goodbyes, and headers as gRPC's servers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_server import ANSWER, answered, frame, setting, trailers

from evaluation.errors import LoadError
from evaluation.load.hpack import CallHeaders, HeaderReader
from evaluation.load.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    REFUSED,
    RESET,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    framed,
)

MESSAGE = framed(b"question")


@pytest.fixture
def connection() -> Connection:
    """A connection that has sent its greeting."""
    made = Connection(CallHeaders("/service/Method", "127.0.0.1:1"))
    made.outgoing.clear()
    return made


def written(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of every frame that waits to be written; they are taken away."""
    data, frames = b"".join(connection.outgoing), []
    connection.outgoing.clear()
    while data:
        size = int.from_bytes(data[:3], "big")
        frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return frames


def test_an_answer_comes_back_with_its_status_and_message(connection: Connection) -> None:
    """The token of the call names it, whatever the order."""
    connection.begin(7, MESSAGE, 1.0)
    connection.begin(8, MESSAGE, 1.0)
    ended = connection.feed(answered(3, 8) + answered(1))
    assert [(answer.token, answer.status, answer.body) for answer in ended] == [
        (8, 8, b""),
        (7, 0, framed(ANSWER)),
    ]
    assert connection.in_flight == 0


@given(cuts=st.lists(st.integers(1, 60), max_size=8))
def test_frames_may_come_in_pieces_of_any_size(cuts: list[int]) -> None:
    """Where the network cuts the bytes changes nothing."""
    connection = Connection(CallHeaders("/service/Method", "127.0.0.1:1"))
    connection.begin(0, MESSAGE, 1.0)
    data, ended = answered(1), []
    for cut in [*cuts, len(data)]:
        ended += connection.feed(data[:cut])
        data = data[cut:]
    assert [(answer.status, answer.body) for answer in ended] == [(0, framed(ANSWER))]


def test_no_more_calls_begin_than_the_server_allows(connection: Connection) -> None:
    """MAX_CONCURRENT_STREAMS counts calls in flight."""
    connection.feed(frame(SETTINGS, 0, 0, setting(3, 2)))
    connection.begin(0, MESSAGE, 1.0)
    connection.begin(1, MESSAGE, 1.0)
    assert connection.free == 0
    connection.feed(answered(1))
    assert connection.free == 1


def test_settings_and_pings_are_acknowledged(connection: Connection) -> None:
    """Else a server would take the caller for dead."""
    connection.feed(frame(SETTINGS, 0, 0, setting(3, 2)) + frame(PING, 0, 0, b"12345678"))
    assert written(connection) == [(SETTINGS, 1, 0, b""), (PING, 1, 0, b"12345678")]


def test_a_message_waits_for_the_window_of_its_call(connection: Connection) -> None:
    """A message beyond the window goes out in parts, as the server grants them."""
    connection.feed(frame(SETTINGS, 0, 0, setting(4, 10)))
    written(connection)
    connection.begin(0, bytes(25), 1.0)
    sent = [payload for kind, _, _, payload in written(connection) if kind == DATA]
    assert [len(part) for part in sent] == [10]
    connection.feed(frame(WINDOW_UPDATE, 0, 1, (20).to_bytes(4, "big")))
    assert [(flags, len(payload)) for _, flags, _, payload in written(connection)] == [(END_STREAM, 15)]


def test_all_calls_together_wait_for_the_window_of_the_connection(connection: Connection) -> None:
    """65,535 bytes may be under way until the server grants more."""
    for token in range(5):
        connection.begin(token, bytes(16_000), 1.0)
    assert sum(len(payload) for kind, _, _, payload in written(connection) if kind == DATA) == 65_535
    connection.feed(frame(WINDOW_UPDATE, 0, 0, (99_999).to_bytes(4, "big")))
    assert sum(len(payload) for _, _, _, payload in written(connection)) == 5 * 16_000 - 65_535


def test_a_call_given_up_is_told_and_its_late_answer_ignored(connection: Connection) -> None:
    """As a caller does whose deadline has passed."""
    connection.begin(0, MESSAGE, 1.0)
    written(connection)
    connection.cancel(0)
    assert [(kind, stream) for kind, _, stream, _ in written(connection)] == [(RST_STREAM, 1)]
    assert connection.feed(answered(1)) == []


def test_after_goodbye_nothing_begins_and_what_was_not_looked_at_is_refused(connection: Connection) -> None:
    """GOAWAY names the last call that the server answers."""
    connection.begin(0, MESSAGE, 1.0)
    connection.begin(1, MESSAGE, 1.0)
    ended = connection.feed(frame(GOAWAY, 0, 0, (1).to_bytes(4, "big") + bytes(4)))
    assert [(answer.token, answer.status) for answer in ended] == [(1, REFUSED)]
    assert connection.free == 0
    assert connection.in_flight == 1


def test_a_refused_call_is_told_from_one_that_was_reset(connection: Connection) -> None:
    """REFUSED_STREAM promises that nothing was done; any other code does not."""
    connection.begin(0, MESSAGE, 1.0)
    connection.begin(1, MESSAGE, 1.0)
    reset = frame(RST_STREAM, 0, 1, (7).to_bytes(4, "big")) + frame(RST_STREAM, 0, 3, (2).to_bytes(4, "big"))
    assert [answer.status for answer in connection.feed(reset)] == [REFUSED, RESET]


def test_a_header_block_may_be_continued(connection: Connection) -> None:
    """A long status comes in two frames."""
    connection.begin(0, MESSAGE, 1.0)
    block = trailers(5)
    ended = connection.feed(frame(HEADERS, END_STREAM, 1, block[:4]) + frame(9, END_HEADERS, 1, block[4:]))
    assert [answer.status for answer in ended] == [5]


def test_padded_headers_are_refused_by_name(connection: Connection) -> None:
    """This caller reads what gRPC's servers write, and says so where it does not."""
    with pytest.raises(LoadError, match="flags 0xc"):
        connection.feed(frame(HEADERS, 0x8 | END_HEADERS, 1, b""))


def test_a_status_is_found_through_the_table_of_earlier_blocks() -> None:
    """A server writes a status once and then names its place, which moves as entries come before it."""
    reader = HeaderReader()
    assert reader.status(b"\x40\x0bgrpc-status\x010") == 0
    assert [reader.status(b"\xbe"), reader.status(b"\xbe")] == [0, 0]
    assert reader.status(b"\x40\x01a\x01b") is None
    assert reader.status(b"\xbf") == 0
    assert reader.status(b"\x7f\x00\x018") == 8
    assert reader.status(b"\x20\x88") is None


def test_the_headers_of_later_calls_name_the_table_and_the_time_left() -> None:
    """What a connection has said once is not said again, except how long the caller waits."""
    headers = CallHeaders("/service/Method", "127.0.0.1:1")
    first, second, third = (headers.block(seconds) for seconds in (1.0, 0.25, 1.0))
    assert b"/service/Method" in first
    assert b"\x051000m" in first
    assert b"/service/Method" not in second
    assert second.endswith(b"\x04250m")
    assert len(third) == len(second) + 1


def test_a_header_text_that_one_byte_cannot_measure_is_refused() -> None:
    """The generator writes short headers only."""
    with pytest.raises(LoadError, match="at most 126"):
        CallHeaders("/" + "x" * 200, "127.0.0.1:1")
