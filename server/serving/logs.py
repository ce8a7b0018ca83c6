"""Log lines of the endpoint, as text or JSON: only fields of a fixed list leave, whoever writes the line.

A field that is not on the list, or whose value does not have the list's form, is dropped. A message of our own rooms
is filled with numbers alone, and else leaves as it stands in the source; one of another library leaves as its
logger's name alone, for it may quote a request.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from server.errors import ServerError
from server.serving.observation import Observation

ROOMS = ("fedrank", "server", "client", "model", "privacy", "proto")
"""Loggers whose messages are ours."""
FOREIGN = "a message of another library is kept back"
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_access = logging.getLogger("fedrank.access")


class LogFormat(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


def _word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


ALLOWED: Mapping[str, Callable[[Any], bool]] = {
    "method": _word,
    "surface": _word,
    "status": _word,
    "error": _word,
    "model_version": _word,
    "merchant": _word,
    "role": _word,
    "what": _word,
    "folder": _word,
    "file": _word,
    "seconds": _number,
    "items": _number,
    "batch": _number,
    "cold_start": lambda value: isinstance(value, bool),
    "worker": _number,
    "code": _number,
    "place": lambda value: isinstance(value, str) and re.fullmatch(r"[\w.<>]{1,200}:\d+", value) is not None,
    "why": lambda value: isinstance(value, Explained),
}
"""Every field that a line may have beside `time`, `level`, `logger` and `event`, and the form of its value."""


class Explained(str):
    """The words of an error that fedrank raises on purpose: by the rule of the house they hold nobody's data."""


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """What a log call passes as `extra`."""
    return {"fields": values}


def fault(error: BaseException) -> dict[str, dict[str, Any]]:
    """An error as fields: its class, and its words where they are ours."""
    why = {"why": Explained(error)} if isinstance(error, ServerError) else {}
    return fields(error=type(error).__name__, **why)


class AllowListFormatter(logging.Formatter):
    """Writes what the list allows and nothing else: no arguments, no trace, no field beside the list."""

    def __init__(self, form: LogFormat) -> None:
        """Write lines of this form."""
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": _message(record) if _ours(record) else FOREIGN,
            **_allowed(getattr(record, "fields", {})),
        }
        if self._form is LogFormat.JSON:
            return json.dumps(line, ensure_ascii=False)
        head = f"{line.pop('time')} {line.pop('level')} {line.pop('logger')}: {line.pop('event')}"
        return " ".join([head, *(f"{name}={value}" for name, value in line.items())])


def set_up_logs(form: LogFormat, level: int) -> None:
    """Send every line of this process to standard error, in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AllowListFormatter(form))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class AccessLog:
    """Writes a share of the calls, as an `Observer`."""

    def __init__(self, share: float, uniform: Callable[[], float]) -> None:
        """Write each call with probability `share`; `uniform` draws from [0, 1)."""
        self._share, self._uniform = share, uniform
        _access.setLevel(logging.INFO if share else logging.CRITICAL)

    def began(self, call: Observation) -> None:
        """Nothing yet."""

    def ended(self, call: Observation, status: str, seconds: float) -> None:
        """Write one line, or none."""
        if self._uniform() < self._share:
            told = {name: value for name in _OF_A_CALL if (value := getattr(call, name))}
            _access.info("call", extra=fields(status=status, seconds=round(seconds, 6), **told))


_OF_A_CALL = ("method", "surface", "model_version", "merchant", "role", "items", "batch", "cold_start")


def _ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in ROOMS and isinstance(record.msg, str)


def _message(record: logging.LogRecord) -> str:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return record.getMessage() if arguments and all(map(_number, arguments)) else str(record.msg)


def _allowed(found: Any) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        return {}
    return {name: value for name, value in found.items() if name in ALLOWED and ALLOWED[name](value)}
