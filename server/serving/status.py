"""From errors to gRPC status with `google.rpc` details that a person can act on."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from server.errors import (
    FeedbackUnavailable,
    Forbidden,
    InvalidRequest,
    QuotaExceeded,
    ServerError,
    SilentStream,
    StoredProfilesOff,
    StoreFull,
    Unauthenticated,
    UnknownItem,
    Violation,
    WrongModelVersion,
)
from server.serving.logs import fault, fields
from server.serving.observation import note_refusal

DOMAIN = "fedrank"
RETRY_SECONDS = 1.0
FULL_RETRY_SECONDS = 60.0
"""When to try again where a person has to make room first."""
STORE_UNAVAILABLE = "events cannot be stored now, and none of this message were; send the stream again"
STORE_FULL = (
    "there is no room for events, and none of this message were stored; rankings go on. "
    "Send the stream again when the operator, whose log says more, has made room"
)

_CODES: dict[type[ServerError], int] = {
    InvalidRequest: code_pb2.INVALID_ARGUMENT,
    UnknownItem: code_pb2.NOT_FOUND,
    WrongModelVersion: code_pb2.FAILED_PRECONDITION,
    StoredProfilesOff: code_pb2.FAILED_PRECONDITION,
    Unauthenticated: code_pb2.UNAUTHENTICATED,
    Forbidden: code_pb2.PERMISSION_DENIED,
    SilentStream: code_pb2.DEADLINE_EXCEEDED,
    QuotaExceeded: code_pb2.RESOURCE_EXHAUSTED,
    StoreFull: code_pb2.RESOURCE_EXHAUSTED,
    FeedbackUnavailable: code_pb2.UNAVAILABLE,
}

_log = logging.getLogger(__name__)


def status_of(error: ServerError) -> status_pb2.Status:
    """The rich status of an error that a caller can act on; any other becomes INTERNAL without its words."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), None)
    if code is None:
        return internal_error()
    text = _sentence(error)
    info = error_details_pb2.ErrorInfo(reason=_reason(type(error).__name__), domain=DOMAIN)
    return status_pb2.Status(
        code=code, message=text, details=[_packed(detail) for detail in (info, *_details(error))]
    )


def _details(error: ServerError) -> list[message.Message]:
    """What a program can act on."""
    match error:
        case InvalidRequest():
            return [_bad_request(error.violations)]
        case QuotaExceeded():
            return [_quota_failure(error.subject, str(error)), _retry(error.retry_seconds)]
        case StoreFull():
            return [_quota_failure("the event store", STORE_FULL), _retry(FULL_RETRY_SECONDS)]
        case FeedbackUnavailable():
            return [_retry(RETRY_SECONDS)]
    return []


def internal_error() -> status_pb2.Status:
    """What a caller learns of a fault of ours: that there is one."""
    return status_pb2.Status(code=code_pb2.INTERNAL, message="the endpoint failed; its log names the fault")


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End a call that failed with the status of its error.

    The words of an unforeseen error stay out of the answer and of the log, for they may hold a shopper's
    data: the log gets the type and the place.
    """
    if isinstance(error, grpc.aio.AbortError):
        raise error
    note_refusal(error)
    if isinstance(error, FeedbackUnavailable):
        _log.error("events cannot be stored", extra=fault(error))
    if isinstance(error, ServerError):
        await _end(context, status_of(error))
    _log.error("a call failed unforeseen", extra=fields(error=type(error).__name__, place=_place(error)))
    await _end(context, internal_error())


async def _end(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    plain = rpc_status.to_status(status)
    await context.abort(plain.code, plain.details, plain.trailing_metadata)


def _sentence(error: ServerError) -> str:
    """What a person reads: the error's own words, unless they are about the inside of the endpoint."""
    match error:
        case StoreFull():
            return STORE_FULL
        case FeedbackUnavailable():
            return STORE_UNAVAILABLE
    return str(error)


def _quota_failure(subject: str, problem: str) -> error_details_pb2.QuotaFailure:
    violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=problem)
    return error_details_pb2.QuotaFailure(violations=[violation])


def _retry(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(round(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


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
