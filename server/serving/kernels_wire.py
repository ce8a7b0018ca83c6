"""A compiled reader of histories as protobuf itself writes them; it makes no object of an event."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from model.compiling import compiled, compiled_for

Array = npt.NDArray[Any]

_BYTES, _VARINT, _MESSAGE = 0x0A, 0x10, 0x1A
"""Tags of the fields 1, 2 and 3 of a `HistoryEvent`; that of a history's events is the first of them too."""
_SECONDS, _NANOS = 0x08, 0x10
"""Tags of a timestamp."""


@compiled
def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, as 64 bits, and the place after it."""
    number, shift = 0, 0
    while content[at] >= 0x80:
        number |= (int(content[at]) & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return number | int(content[at]) << shift, at + 1


@compiled
def _seconds(content: bytes, at: int, end: int) -> int:
    """Return the seconds of the timestamp between two places; -1 where it holds anything unknown."""
    seconds = 0
    while at < end:
        tag = content[at]
        number, at = _varint(content, at + 1)
        if tag == _SECONDS:
            seconds = number
        elif tag != _NANOS:
            return -1
    return seconds


@compiled
def _is_ascii(content: bytes, at: int, end: int) -> bool:
    bits = 0
    for place in range(at, end):
        bits |= content[place]
    return bits < 0x80


@compiled_for("boolean(Bytes(uint8, 1, 'C'), int64, int64, int64[:, ::1])")
def plain_history(content: bytes, kinds: int, latest: int, told: Array) -> bool:
    """Write the events of a `History` (4, e): where the item's id begins and ends, kind from 0, and time (-1: none).

    `content` must be what protobuf wrote of a message with so many events, for places are not checked. Returns
    whether the history is plain; if not, what was written means nothing: an id beyond ASCII, a kind that is not
    1 to `kinds`, a time outside 0 to `latest`, an unknown field.
    """
    at = 0
    for event in range(told.shape[1]):
        size, at = _varint(content, at + 1)
        end = at + size
        told[0, event], told[1, event], told[2, event], told[3, event] = at, at, -1, -1
        while at < end:
            tag = content[at]
            number, at = _varint(content, at + 1)
            if tag == _BYTES and _is_ascii(content, at, at + number):
                told[0, event], told[1, event], at = at, at + number, at + number
            elif tag == _VARINT and 1 <= number <= kinds:
                told[2, event] = number - 1
            elif tag == _MESSAGE:
                told[3, event] = _seconds(content, at, at + number)
                at += number
                if not 0 <= told[3, event] <= latest:
                    return False
            else:
                return False
        if told[2, event] < 0:
            return False
    return at == len(content)
