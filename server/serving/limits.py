"""Every bound of the endpoint that is not a bound on a field of a message, and the channel options that set them.

Times in seconds, sizes in bytes. What a caller sees when it meets a bound: docs/serving-security.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from server.errors import InvalidRequest, Violation
from server.serving.authorisation import RANK, RECORD_EVENTS

MAX_REQUEST_BYTES: Final = 1 << 20
MAX_RESPONSE_BYTES: Final = 4 << 20
MAX_HEADER_BYTES: Final = 8 << 10
"""All headers of a call together; more is refused before anybody sees the call. gRPC holds a caller to it once the
caller has acknowledged the connection's settings."""
SETTINGS_SECONDS: Final = 5
"""How long a caller may take for that; then its connection is closed."""
MAX_CALLS: Final = 256
"""Calls in progress at one worker; more are refused with RESOURCE_EXHAUSTED."""
MAX_CONNECTIONS: Final = 2048
"""Open connections to one worker; further ones are closed at once. An idle one over TLS costs about 71 KiB."""
MAX_STREAMS_PER_CONNECTION: Final = 16
"""Calls in progress on one connection. A worker answers in about a millisecond, so that more would only wait; that
they wait, or fail, at the caller costs the worker nothing, which is what keeps its answers coming under overload."""
MAX_STREAM_MESSAGES: Final = 10_000
"""Messages that one call may send."""
SILENCE_SECONDS: Final = 60.0
"""How long a call that sends a stream may take for its next message."""
HANDSHAKE_SECONDS: Final = 10
"""How long a connection may take until TLS and HTTP/2 stand."""
IDLE_SECONDS: Final = 300
"""A connection without a call for so long is closed."""
AGE_SECONDS: Final = 600
"""A connection of this age is closed: the next one meets the certificates and authorities of that moment."""
AGE_GRACE_SECONDS: Final = 60
"""How long calls on a connection that has reached its age may go on."""
KEEPALIVE_SECONDS: Final = 60
"""After so long without a sign of life a peer is asked for one; without an answer in a third of it, it is gone."""
PING_SECONDS: Final = 30
"""Pings of a client more often than this are abuse; the third one closes its connection."""

LONGEST: Final[Mapping[str, float]] = MappingProxyType({RANK: 30.0, RECORD_EVENTS: 600.0})
"""The deadlines that may be asked for at most, per method. Methods that are not here need none."""

TLS_1_3_ONLY: Final = ("GRPC_SSL_CIPHER_SUITES", "PSK-AES128-CBC-SHA")
"""Variable and value, to be set before gRPC starts. The list is that of TLS 1.2 and below, and its one suite needs a
key that nobody shares here; the suites of TLS 1.3 cannot be taken away."""

ROUNDING_SECONDS: Final = 1.0
"""What a deadline may come out longer than it was set: it travels rounded, and is counted by two clocks."""

NO_DEADLINE = "the call has no deadline; set one, for example timeout=2.0 in Python or -max-time 2 in grpcurl"


def server_options(*, share_port: bool = False) -> list[tuple[str, int]]:
    """Options of a gRPC server; `share_port` lets several worker processes listen on one port."""
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
        ("grpc.max_metadata_size", MAX_HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.http2.settings_timeout", 1000 * SETTINGS_SECONDS),
        ("grpc.server_handshake_timeout_ms", 1000 * HANDSHAKE_SECONDS),
        ("grpc.max_connection_idle_ms", 1000 * IDLE_SECONDS),
        ("grpc.max_connection_age_ms", 1000 * AGE_SECONDS),
        ("grpc.max_connection_age_grace_ms", 1000 * AGE_GRACE_SECONDS),
        ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_SECONDS),
        ("grpc.keepalive_timeout_ms", 1000 * KEEPALIVE_SECONDS // 3),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * PING_SECONDS),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.so_reuseport", int(share_port)),
    ]


class BadDeadline(InvalidRequest):
    """A call came without a deadline, or with one further away than the method allows."""


def check_deadline(context: Any, method: str) -> None:
    """Raise `BadDeadline` where the caller would wait for ever, or nearly so."""
    longest = LONGEST.get(method)
    if longest is None:
        return
    remaining = context.time_remaining()
    if remaining is None or not math.isfinite(remaining):
        raise BadDeadline(Violation(field="deadline", problem=NO_DEADLINE))
    if remaining > longest + ROUNDING_SECONDS:
        problem = f"the deadline is too far away; send at most {longest:g} s for this method"
        raise BadDeadline(Violation(field="deadline", problem=problem))
