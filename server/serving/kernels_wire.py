"""A compiled reader of plain questions as callers send them; it makes no object of an event.

It reads untrusted bytes, and no place beyond them. Whatever it does not know for certain it leaves to protobuf: it
says so, and what it wrote until then means nothing.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from model.compiling import compiled, compiled_for

Array = npt.NDArray[Any]

SURFACE, K, TIMESTAMP, EXCLUDE_SEEN, WITHOUT_REASONS = range(5)
REQUEST_ID, ITEM_ID, HISTORY, SESSION = range(5, 13, 2)
"""Where `plain_request` writes what of a question; a text or a history takes two numbers, any other thing one."""
FACTS = 13

_BAD = -1
_FIRST_LARGE = 1 << 62


@compiled
def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins at a place, below 2 ** 62, and the place after it; or `_BAD` twice."""
    number, shift = 0, 0
    while at < end and shift < 63:
        byte = int(content[at])
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number, at) if 0 <= number < _FIRST_LARGE else (_BAD, _BAD)
        shift += 7
    return _BAD, _BAD


@compiled
def _span(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the content begins and ends whose length stands at a place; or `_BAD` twice."""
    size, begin = _varint(content, at, end)
    return (begin, begin + size) if 0 <= size <= end - begin else (_BAD, _BAD)


@compiled
def _is_ascii(content: bytes, at: int, end: int) -> bool:
    bits = 0
    for place in range(at, end):
        bits |= content[place]
    return bits < 0x80


@compiled
def _seconds(content: bytes, at: int, end: int) -> int:
    """Return the seconds of a timestamp between two places, or `_BAD`."""
    seconds = 0
    while at < end:
        tag = content[at]
        number, at = _varint(content, at + 1, end)
        if number < 0 or tag not in (0x08, 0x10) or (tag == 0x10 and number >= 1 << 31):
            return _BAD
        if tag == 0x08:
            seconds = number
    return seconds


@compiled
def _event(content: bytes, at: int, end: int, kinds: int, latest: int, told: Array) -> bool:
    """Write one event (4,), and return whether it is plain."""
    told[0], told[1], told[2], told[3] = at, at, _BAD, _BAD
    while at < end:
        tag = content[at]
        if tag == 0x0A:
            told[0], told[1] = _span(content, at + 1, end)
            if told[1] < 0 or not _is_ascii(content, told[0], told[1]):
                return False
            at = told[1]
        elif tag == 0x10:
            number, at = _varint(content, at + 1, end)
            if not 1 <= number <= kinds:
                return False
            told[2] = number - 1
        elif tag == 0x1A and told[3] < 0:
            begin, at = _span(content, at + 1, end)
            told[3] = _seconds(content, begin, at) if at >= 0 else _BAD
            if not 0 <= told[3] <= latest:
                return False
        else:
            return False
    return bool(told[2] >= 0)


@compiled
def _events(content: bytes, at: int, end: int, kinds: int, latest: int, told: Array, first: int) -> int:
    """Write the events of a history between two places from column `first` on, and return the column after them."""
    while at < end:
        if content[at] != 0x0A or first == told.shape[1]:
            return _BAD
        begin, at = _span(content, at + 1, end)
        if at < 0 or not _event(content, begin, at, kinds, latest, told[:, first]):
            return _BAD
        first += 1
    return first


@compiled
def _moment(content: bytes, at: int, end: int) -> tuple[bool, int]:
    """Return whether a context is plain, and its timestamp; `_BAD` where it has none."""
    moment = _BAD
    while at < end:
        if content[at] != 0x0A or moment >= 0:
            return False, _BAD
        begin, at = _span(content, at + 1, end)
        if at < 0:
            return False, _BAD
        moment = _seconds(content, begin, at)
        if moment < 0:
            return False, _BAD
    return True, moment


@compiled
def _number(content: bytes, at: int, end: int, tag: int, facts: Array) -> int:
    """Write the number of a field, and return the place after it, or `_BAD`."""
    number, after = _varint(content, at, end)
    if tag == 0x10:
        facts[SURFACE] = number
    elif tag == 0x18:
        facts[K] = number
    elif tag == 0x50:
        facts[EXCLUDE_SEEN] = number != 0
    else:
        facts[WITHOUT_REASONS] = number != 0
    return after


@compiled_for("boolean(Bytes(uint8, 1, 'C'), int64, int64, int64[::1], int64[:, ::1])")
def plain_request(content: bytes, kinds: int, latest: int, facts: Array, told: Array) -> bool:
    """Write what a `RankRequest` asks, and return whether it is plain; if not, what was written means nothing.

    Plain are surface, number, request id, item id, moment, what to leave out, history and session, each history once.
    `facts` gets them at the places above: numbers; where a text begins and ends in `content`; and the columns of
    `told` (4, e) between which the events of a history are, -1 for one that is absent, as the moment may be. An event
    has the place where its item's id begins and ends, its kind from 0, and its time, -1 for none.
    """
    facts[:] = 0
    facts[TIMESTAMP], facts[EXCLUDE_SEEN] = _BAD, 1
    facts[HISTORY], facts[SESSION] = _BAD, _BAD
    at, end, events = 0, len(content), 0
    context = False
    while 0 <= at < end:
        tag = content[at]
        if tag in (0x10, 0x18, 0x50, 0x78):
            at = _number(content, at + 1, end, tag, facts)
            continue
        begin, at = _span(content, at + 1, end)
        if at < 0:
            return False
        if tag in (0x0A, 0x4A) and _is_ascii(content, begin, at):
            which = REQUEST_ID if tag == 0x0A else ITEM_ID
            facts[which], facts[which + 1] = begin, at
        elif tag in (0x2A, 0x5A) and facts[HISTORY if tag == 0x2A else SESSION] < 0:
            which = HISTORY if tag == 0x2A else SESSION
            facts[which], facts[which + 1] = events, _events(content, begin, at, kinds, latest, told, events)
            events = facts[which + 1]
            if events < 0:
                return False
        elif tag == 0x3A and not context:
            context, facts[TIMESTAMP] = _moment(content, begin, at)
            if not context:
                return False
        else:
            return False
    return at == end


@compiled_for("boolean(Bytes(uint8, 1, 'C'), int64, int64, int64[:, ::1])")
def plain_history(content: bytes, kinds: int, latest: int, told: Array) -> bool:
    """Write the events of a `History` (4, e) as `plain_request` does; return if it is plain and has just so many.

    Not plain is an id beyond ASCII, a kind that is not 1 to `kinds`, a time outside 0 to `latest`, an unknown field.
    """
    return bool(_events(content, 0, len(content), kinds, latest, told, 0) == told.shape[1])
