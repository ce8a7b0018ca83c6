"""From errors to gRPC status with `google.rpc` details, and the rule that every call has a deadline."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from server.errors import (
    FeedbackUnavailable,
    InvalidRequest,
    ServerError,
    UnknownItem,
    Violation,
    WrongModelVersion,
)

DOMAIN = "fedrank"
MAX_VIOLATIONS = 10
"""Violations told to a caller; details travel in a header of at most 8 KiB."""
RETRY_SECONDS = 1
NO_DEADLINE = "the call has no deadline; set one, for example timeout=2.0 in Python or -max-time 2 in grpcurl"

_CODES: dict[type[ServerError], int] = {
    InvalidRequest: code_pb2.INVALID_ARGUMENT,
    UnknownItem: code_pb2.NOT_FOUND,
    WrongModelVersion: code_pb2.FAILED_PRECONDITION,
    FeedbackUnavailable: code_pb2.UNAVAILABLE,
}

_log = logging.getLogger(__name__)


class NoDeadline(InvalidRequest):
    """A call came without a deadline."""


def status_of(error: ServerError) -> status_pb2.Status:
    """The rich status of an error that a caller can act on; any other becomes INTERNAL without its words."""
    code = _CODES.get(type(error))
    if isinstance(error, InvalidRequest):
        code = code_pb2.INVALID_ARGUMENT
    if code is None:
        return internal_error()
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=_reason(type(error).__name__), domain=DOMAIN)
    ]
    text = str(error)
    if isinstance(error, InvalidRequest):
        shown = error.violations[:MAX_VIOLATIONS]
        text = _sentence(error, shown)
        details.append(_bad_request(shown))
    if code == code_pb2.UNAVAILABLE:
        delay = duration_pb2.Duration(seconds=RETRY_SECONDS)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code, message=text, details=[_packed(detail) for detail in details])


def internal_error() -> status_pb2.Status:
    """What a caller learns of a fault of ours: that there is one."""
    return status_pb2.Status(code=code_pb2.INTERNAL, message="the endpoint failed; its log names the fault")


@asynccontextmanager
async def answering(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Refuse a call without deadline, and end a call that fails with the status of its error.

    The words of an unforeseen error stay out of the answer and of the log, for they may hold a shopper's
    data: the log gets the type and the place.
    """
    try:
        require_deadline(context)
        yield
    except ServerError as error:
        await _end(context, status_of(error))
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        _log.error("unforeseen %s at %s", type(error).__name__, _place(error))
        await _end(context, internal_error())


def require_deadline(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Raise `NoDeadline` where the caller would wait for ever."""
    remaining = context.time_remaining()
    if remaining is None or not math.isfinite(remaining):
        raise NoDeadline(Violation(field="deadline", problem=NO_DEADLINE))


async def _end(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    plain = rpc_status.to_status(status)
    await context.abort(plain.code, plain.details, plain.trailing_metadata)


def _sentence(error: InvalidRequest, shown: tuple[Violation, ...]) -> str:
    more = len(error.violations) - len(shown)
    words = "; ".join(f"{violation.field}: {violation.problem}" for violation in shown)
    return f"{words}; and {more} more" if more else words


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    fields = [
        error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.problem)
        for violation in violations
    ]
    return error_details_pb2.BadRequest(field_violations=fields)


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _reason(name: str) -> str:
    """`UnknownItem` as `UNKNOWN_ITEM`, the form that google.rpc.ErrorInfo wants."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper()


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "an unknown place"
