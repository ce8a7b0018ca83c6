"""What is remembered of one call for metrics and the access log: numbers and words of fixed lists, never content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

NO_SURFACE = "none"
"""The surface of a call that has none, or whose request was not read."""


@dataclass(slots=True, kw_only=True)
class Observation:
    """One call. What is not known yet has its default.

    Attributes:
        method: its short name, "Rank".
        surface, model_version, merchant, role: words of this endpoint, its registry and the caller's certificate.
        reason: the class of the error that the call was refused with; empty: none.
        began: seconds of a clock that never goes back.
        items: items in the answer; `batch`: questions that were answered together with this one.
    """

    method: str
    began: float
    surface: str = NO_SURFACE
    reason: str = ""
    model_version: str = ""
    merchant: str = ""
    role: str = ""
    items: int = 0
    batch: int = 0
    cold_start: bool = False


OBSERVATION: ContextVar[Observation] = ContextVar("observation")
"""The call that the running task answers; set inside a method that was registered through `ObservedServer`."""


class Observer(Protocol):
    """Whoever wants to know of calls."""

    def began(self, call: Observation) -> None:
        """A call has come; nothing of it was read."""

    def ended(self, call: Observation, status: str, seconds: float) -> None:
        """A call has ended with a gRPC status ("OK") so many seconds after it came."""


class ObservedServer:
    """A server as the generated `add_..._to_server` functions see it: what they register is observed.

    It stands outermost, so that refusals at the door are seen too.
    """

    def __init__(
        self, server: Any, observers: Sequence[Observer], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Register with `server`, a `grpc.aio.Server`; tell `observers`."""
        self._server = server
        self._observers = tuple(observers)
        self._monotonic = monotonic

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service by their names; each takes a stream of requests."""
        observed = {name: self._observed(name, handler) for name, handler in method_handlers.items()}
        self._server.add_registered_method_handlers(service_name, observed)

    def _observed(self, name: str, handler: Any) -> Any:
        inner = handler.stream_stream or handler.stream_unary
        wrap = grpc.stream_stream_rpc_method_handler if handler.response_streaming else None
        wrap = wrap or grpc.stream_unary_rpc_method_handler
        return wrap(self._behaviour(name, inner), handler.request_deserializer, handler.response_serializer)

    def _behaviour(self, name: str, inner: Any) -> Any:
        async def behaviour(requests: Any, context: Any) -> Any:
            call = Observation(method=name, began=self._monotonic())
            OBSERVATION.set(call)
            for observer in self._observers:
                observer.began(call)
            gone = False
            try:
                return await inner(requests, context)
            except asyncio.CancelledError:
                gone = True
                raise
            finally:
                status = "CANCELLED" if gone else _name(context.code())
                seconds = self._monotonic() - call.began
                for observer in self._observers:
                    observer.ended(call, status, seconds)

        return behaviour


def note_refusal(error: Exception) -> None:
    """Remember with which kind of error the running call is refused."""
    call = OBSERVATION.get(None)
    if call is not None:
        call.reason = type(error).__name__


_NAMES: Mapping[Any, str] = {
    **{code: code.name for code in grpc.StatusCode},
    **{code.value[0]: code.name for code in grpc.StatusCode},
    None: "OK",
}
"""A server context tells its status as a number, as a code, or not at all where the call went well."""


def _name(code: Any) -> str:
    return _NAMES.get(code, "UNKNOWN")
