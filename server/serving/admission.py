"""The one door of the gRPC server: no method is served but behind the guard, whoever registers it.

Every method is opened as a stream of requests, which on the wire is the same as a single one. So a call is admitted,
and its deadline known, before a byte of its body is waited for or decoded: a caller that sends slowly is bound by the
deadline, and one that may not call sends in vain.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from server.errors import InvalidRequest, SilentStream, Violation
from server.serving.guard import Caller, Guard
from server.serving.limits import MAX_STREAM_MESSAGES, SILENCE_SECONDS, check_deadline
from server.serving.status import refuse

CALLER: ContextVar[Caller] = ContextVar("caller")
"""Who made the call that the running task answers; always set inside a method that was registered here."""

NO_MESSAGE = "is absent: the call ended before it came; send one"
SILENT = f"no whole message came for {SILENCE_SECONDS:g} s; open a stream when there is something to send"
TOO_LONG = f"has more than {MAX_STREAM_MESSAGES:,} messages; end it, and send what follows in another"
NOT_A_MESSAGE = "is no message of this method; generate the stubs anew from its .proto file"


class GuardedServer:
    """A `grpc.aio.Server` as the generated `add_..._to_server` functions see it: what they register is guarded."""

    def __init__(self, server: Any, guard: Guard) -> None:
        """Register with `server`, a `grpc.aio.Server` or one that stands before it, behind `guard`."""
        self._server = server
        self._guard = guard

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service by their names."""
        guarded = {
            name: _guarded(handler, self._guard, f"/{service_name}/{name}")
            for name, handler in method_handlers.items()
        }
        self._server.add_registered_method_handlers(service_name, guarded)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """Register nothing: such handlers choose their methods call by call, so that nobody could list them.

        Generated code calls this too, for servers that lack the other way.
        """


def _guarded(handler: Any, guard: Guard, method: str) -> Any:
    """The same method, behind the guard."""
    serializer = handler.response_serializer
    if handler.response_streaming:
        parts = handler.stream_stream or handler.unary_stream
        behaviour = _answering_in_parts(parts, _reader(handler), guard, method)
        return grpc.stream_stream_rpc_method_handler(behaviour, response_serializer=serializer)
    once = handler.stream_unary or handler.unary_unary
    behaviour = _answering_once(once, _reader(handler), guard, method)
    return grpc.stream_unary_rpc_method_handler(behaviour, response_serializer=serializer)


def _answering_once(inner: Any, read: Any, guard: Guard, method: str) -> Any:
    async def behaviour(requests: AsyncIterator[bytes], context: Any) -> Any:
        caller = None
        try:
            check_deadline(context, method)
            caller = guard.admit(context, method)
            CALLER.set(caller)
            return await inner(await read(requests, context), context)
        except Exception as error:
            return await refuse(context, error)
        finally:
            if caller is not None:
                caller.leave()

    return behaviour


def _answering_in_parts(inner: Any, read: Any, guard: Guard, method: str) -> Any:
    async def behaviour(requests: AsyncIterator[bytes], context: Any) -> None:
        caller = None
        try:
            check_deadline(context, method)
            caller = guard.admit(context, method)
            CALLER.set(caller)
            answer = inner(await read(requests, context), context)
            if inspect.isawaitable(answer):  # a method that writes to the context itself
                await answer
            else:
                async for part in answer:
                    await context.write(part)
        except Exception as error:
            await refuse(context, error)
        finally:
            if caller is not None:
                caller.leave()

    return behaviour


def _reader(handler: Any) -> Callable[[AsyncIterator[bytes], Any], Any]:
    """How a method gets its request: one message, or an iterator over decoded ones."""
    decode = handler.request_deserializer or bytes

    async def one(requests: AsyncIterator[bytes], context: Any) -> Any:
        content = await context.read()
        if not isinstance(content, bytes):  # the end of the stream
            raise InvalidRequest(Violation(field="request", problem=NO_MESSAGE))
        return decoded(decode, content)

    async def many(requests: AsyncIterator[bytes], context: Any) -> Any:
        return _messages(decode, requests)

    return many if handler.request_streaming else one


async def _messages(decode: Callable[[bytes], Any], requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """The messages of a stream, which may be neither endless nor silent for long."""
    for _ in range(MAX_STREAM_MESSAGES):
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                content = await anext(requests)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise SilentStream(SILENT) from None
        yield decoded(decode, content)
    raise InvalidRequest(Violation(field="stream", problem=TOO_LONG))


def decoded(decode: Callable[[bytes], Any], content: bytes) -> Any:
    """A message out of its bytes; raises `InvalidRequest` where they are none."""
    try:
        return decode(content)
    except DecodeError as error:
        raise InvalidRequest(Violation(field="request", problem=NOT_A_MESSAGE)) from error
