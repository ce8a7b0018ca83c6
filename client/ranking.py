"""The client of the ranking endpoint: deadlines on every call, TLS, retries with jitter, errors to act on.

with RankingClient("127.0.0.1:8443") as client:
    ranking = client.rank(Question(surface=Surface.HOME, shopper="..."))
"""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from client.ranking_answers import Ranking
from client.ranking_connection import ClientTls, is_loopback, open_channel, unreachable
from client.ranking_errors import (
    ClientClosed,
    DeadlineExceeded,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    InvalidConnection,
    InvalidEvent,
    InvalidQuestion,
    RankingError,
    RequestRefused,
)
from client.ranking_words import Acknowledgement, Impression, Interaction, Question, event_messages
from proto.fedrank.ranking.v1 import ranking_pb2_grpc

__all__ = [
    "ClientClosed",
    "ClientTls",
    "DeadlineExceeded",
    "EndpointBusy",
    "EndpointFailed",
    "EndpointUnreachable",
    "InvalidConnection",
    "InvalidEvent",
    "InvalidQuestion",
    "RankingClient",
    "RankingError",
    "RequestRefused",
    "Retries",
    "is_loopback",
]

_TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""No endpoint, or one that stopped with the call at its door: this client itself never cancels."""
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)


_Detail = TypeVar("_Detail", bound=Message)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Attempts while an endpoint is unavailable: full jitter, sleeping up to `first * 2**n`, at most `longest`.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 4
    first: float = 0.1
    longest: float = 1.0

    def pause(self, failures: int, uniform: float) -> float:
        """Seconds to wait after the `failures`-th failure, for `uniform` drawn from [0, 1)."""
        return uniform * min(self.longest, self.first * 2.0 ** (failures - 1))


class RankingClient:
    """A connection to one endpoint; safe to use from several threads."""

    def __init__(
        self,
        address: str,
        *,
        tls: ClientTls | None = None,
        timeout: float = 2.0,
        at_once: int = 16,
        retries: Retries | None = None,
        uniform: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to `address`, "host:port".

        Without `tls`, an address of this machine's loopback is spoken to in the clear and any other over TLS that
        the system's authorities vouch for. `timeout`, in seconds, covers all attempts of a call.
        Of more than `at_once` calls the last fails with `EndpointBusy`: an endpoint that is asked for more than it
        can answer would answer a call that stood in line too late, and so every later one.
        Raises `InvalidConnection` for an address without its port, TLS that cannot come about, and limits of nothing.
        """
        if not isinstance(at_once, int) or at_once < 1:
            raise InvalidConnection(f"at_once is {at_once}; give 1 or more calls")
        self.address = address
        self._timeout = _checked(timeout)
        self._closed = False
        self._places = threading.BoundedSemaphore(at_once)
        self._retries = retries or Retries()
        self._uniform, self._sleep, self._clock = uniform, sleep, clock
        self._secure = tls is not None or not is_loopback(address)
        self._channel = open_channel(address, tls)
        stub = ranking_pb2_grpc.RankingServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._rank, self._record = stub.Rank, stub.RecordEvents

    def rank(self, question: Question, *, timeout: float | None = None) -> Ranking:
        """Ask for one ranking; raises a `RankingError`."""
        request = question.to_wire(uuid.uuid4().hex)
        return Ranking.from_wire(self._call(lambda left: self._rank(request, timeout=left), timeout))

    def record(
        self, events: Sequence[Impression | Interaction], *, timeout: float | None = None
    ) -> Acknowledgement:
        """Tell what happened; raises a `RankingError`. Sending the same events again changes nothing."""
        messages = event_messages(events)
        answer = self._call(lambda left: self._record(iter(messages), timeout=left), timeout)
        return Acknowledgement(
            acknowledged=answer.acknowledged,
            duplicates=answer.duplicates,
            unknown_items=answer.unknown_items,
        )

    def close(self) -> None:
        """Close the connection; a call after this, or one that still waits, ends with `ClientClosed`."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the open client."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connection."""
        self.close()

    def _call(self, attempt: Callable[[float], Any], timeout: float | None) -> Any:
        """Attempt where there is a place for one more call."""
        if not self._places.acquire(blocking=False):
            raise EndpointBusy(
                f"as many calls to {self.address} as may be are under way, so nothing was sent; show a list of your "
                "own, or send fewer at a time"
            )
        try:
            return self._attempts(attempt, timeout)
        finally:
            self._places.release()

    def _attempts(self, attempt: Callable[[float], Any], timeout: float | None) -> Any:
        """Attempt until an answer, a refusal, the last attempt or the deadline; both calls are idempotent."""
        allowed = self._timeout if timeout is None else _checked(timeout)
        end = self._clock() + allowed
        failures = 0
        while True:
            try:
                return attempt(max(end - self._clock(), 0.0))
            except grpc.RpcError as error:
                failures += 1
                asked = _asked_pause(error)
                pause = max(asked or 0.0, self._retries.pause(failures, self._uniform()))
                hopeless = failures >= self._retries.attempts or self._clock() + pause >= end
                if hopeless or (asked is None and _code(error) not in _TRY_AGAIN):
                    raise self._translated(error, allowed, failures) from None
            except ValueError:
                if not self._closed:
                    raise
                raise ClientClosed(
                    f"this client of {self.address} is closed; make another RankingClient, and keep it open"
                ) from None
            self._sleep(pause)

    def _translated(self, error: grpc.RpcError, allowed: float, attempts: int) -> RankingError:
        code = _code(error)
        words = error.details() or ""
        if code in _TRY_AGAIN:
            return EndpointUnreachable(unreachable(self.address, attempts, words, secure=self._secure))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"{self.address} did not answer within {allowed:g} s; give a longer timeout"
            )
        if code in _REFUSALS:
            return RequestRefused(f"{self.address} refused the request: {words}", _violations(error))
        return EndpointFailed(f"{self.address} failed with {code.name}: {words}")


def _checked(timeout: float) -> float:
    """A time limit in seconds; raises `InvalidConnection` where it is none."""
    if not (isinstance(timeout, int | float) and 0 < timeout < math.inf):
        raise InvalidConnection(f"the timeout is {timeout}; give a number of seconds above 0")
    return timeout


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def _details(error: grpc.RpcError, kind: type[_Detail]) -> Iterator[_Detail]:
    """What the endpoint told beside the status, of one kind."""
    call: Any = error  # what a channel raises is an error and the finished call in one
    status = rpc_status.from_call(call)
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            yield detail


def _violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    return [
        (violation.field, violation.description)
        for request in _details(error, error_details_pb2.BadRequest)
        for violation in request.field_violations
    ]


def _asked_pause(error: grpc.RpcError) -> float | None:
    """Seconds after which the endpoint invites to try again; None where it does not."""
    for retry in _details(error, error_details_pb2.RetryInfo):
        return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None
