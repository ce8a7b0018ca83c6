"""Compiled loops from the events that were told to what is known of each shopper, and to what the user tower reads.

Arrays are (e,) over the events of all questions of a batch, one question's after another's, and (b,) over questions.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from model.compiling import compiled, compiled_for
from model.features import DAY, KINDS
from model.onnx_tower import DAYS, KIND_STEP, LAST_DAY, PLACES
from server.serving.kernels import falling

Array = npt.NDArray[Any]

HISTORY, DETAIL, CART = 0, 1, 2
"""How the session is read: as it was told, as a view of the item looked at, or as a basket, which is left empty."""

_KINDS, _VIEW = len(KINDS), KINDS.index("view")
_CRC = np.array([crc32(bytes([value])) ^ crc32(b"\0") for value in range(256)], dtype=np.uint32)
_ID = 0x12


@compiled
def _hash(content: bytes, begin: int, end: int) -> int:
    """Return the CRC-32 of some of the bytes."""
    crc = np.uint32(0xFFFFFFFF)
    for place in range(begin, end):
        crc = _CRC[(crc ^ content[place]) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return int(crc ^ np.uint32(0xFFFFFFFF))


@compiled
def _begins(data: Array, at: int, end: int, content: bytes, begin: int, size: int) -> bool:
    """Return whether the encoded item from `at` to `end` begins with this id."""
    if at == end or data[at] != _ID:
        return False
    left = size
    while left > 0x7F:
        at += 1
        if data[at] != left & 0x7F | 0x80:
            return False
        left >>= 7
    at += 1
    if data[at] != left:
        return False
    differ = False
    for place in range(size):
        differ |= data[at + 1 + place] != content[begin + place]
    return not differ


@compiled_for(
    *(
        f"void(Bytes(uint8, 1, 'C'), int64[:, :], Array(uint32, 1, 'C', True), Array(int32, 1, 'C', True), "
        f"Array({offsets}, 1, 'C', True), Array(uint8, 1, 'C', True), int64, int64[::1])"
        for offsets in ("uint32", "int64")
    )
)
def find_rows(
    content: bytes,
    told: Array,
    starts: Array,
    rows: Array,
    offsets: Array,
    data: Array,
    first: int,
    found: Array,
) -> None:
    """Write which row each event's item is, plus `first`, where it is in this hash table and `found` is negative yet.

    The table is that of `server.serving.items_lookup`, over encoded items.
    """
    for event in range(told.shape[1]):
        if found[event] < 0:
            begin, size = told[0, event], told[1, event] - told[0, event]
            bucket = _hash(content, begin, begin + size) & (len(starts) - 2)
            for place in range(starts[bucket], starts[bucket + 1]):
                row = rows[place]
                if _begins(data, offsets[row], offsets[row + 1], content, begin, size):
                    found[event] = first + row
                    break


@compiled
def _newest_first(rows: Array, kinds: Array, times: Array, now: int, past: Array, begin: int) -> int:
    """Write items, kinds and times of known items newest first from a place on, and return the place after them.

    An event without a time (-1), or dated after `now`, counts as now; of equal times the later told is the newer.
    """
    end, ordered = begin, True
    for told in range(len(rows) - 1, -1, -1):
        if rows[told] >= 0:
            time = times[told] if 0 <= times[told] <= now else now
            past[0, end], past[1, end], past[2, end] = rows[told], kinds[told], time
            ordered = ordered and (end == begin or time <= past[2, end - 1])
            end += 1
    if not ordered:
        order = falling(past[2, begin:end])
        for column in range(3):
            past[column, begin:end] = past[column, begin:end].copy()[order]
    return end


@compiled
def _first_of_each(past: Array, session: int, read: Array, begin: int, limit: int) -> tuple[int, int]:
    """Write the first event of each item and kind from a place on, at most `limit`.

    Returns the place after them, and how many of them are of the session, whose events are the first of `past`.
    """
    keys = np.empty(min(limit, past.shape[1]), dtype=np.int64)
    count, of_session = 0, 0
    for event in range(past.shape[1]):
        if count == len(keys):
            break
        key = past[0, event] * _KINDS + past[1, event]
        known = False
        for other in range(count):
            known |= keys[other] == key
        if not known:
            keys[count] = key
            for column in range(3):
                read[column, begin + count] = past[column, event]
            count += 1
            of_session += event < session
    return begin + count, of_session


@compiled_for(
    "void(int64[::1], int64[:, ::1], int64[::1], int64[::1], int64, int64[:, ::1], int64[:, ::1], int64[:, ::1])"
)
def read_each(
    rows: Array, told: Array, ends: Array, nows: Array, limit: int, past: Array, read: Array, marks: Array
) -> None:
    """Write items, kinds and times (3, e) of what is known of each shopper: newest first, the session before all.

    `told` (4, e) is as in `server.serving.query.Events`, with rows (e,) that are negative where an item is unknown.
    For each question there are two `ends` (2 b,), that of its session and that of its history. `past` gets all known
    events, `read` the first of each item and kind, at most `limit`. `marks` (4, b) gets where a question's events
    end in `past` and how many of them are of the session, and the same for `read`.
    """
    begin, past_end, read_end = 0, 0, 0
    for row in range(len(nows)):
        first = past_end
        for part in range(2):
            mine = slice(begin, ends[2 * row + part])
            past_end = _newest_first(rows[mine], told[2, mine], told[3, mine], nows[row], past, past_end)
            begin = ends[2 * row + part]
            if part == 0:
                marks[1, row] = past_end - first
        known = past[:, first:past_end]
        read_end, marks[3, row] = _first_of_each(known, marks[1, row], read, read_end, limit)
        marks[0, row], marks[2, row] = past_end, read_end


@compiled_for("void(int64[:, ::1], int64[::1], boolean[:, ::1], int64[::1], int64[::1])")
def barred_each(past: Array, ends: Array, seen: Array, barred: Array, barred_ends: Array) -> None:
    """Write the sorted items of each question with an event of a kind that is `seen` (b, kinds), and their end."""
    begin, count = 0, 0
    for row in range(len(ends)):
        first = count
        for event in range(begin, ends[row]):
            if seen[row, past[1, event]]:
                barred[count] = past[0, event]
                count += 1
        found = np.sort(barred[first:count])
        count = first
        for item in found:
            if count == first or barred[count - 1] != item:
                barred[count] = item
                count += 1
        begin, barred_ends[row] = ends[row], count


@compiled
def _code(place: int, kind: int, day: int, has_clock: bool) -> int:
    """Return the code of an event, as `model.onnx_tower.codes_newest_first` has it."""
    return int(PLACES[place] + KIND_STEP * kind + (DAYS[min(day, LAST_DAY)] if has_clock else 1))


@compiled_for(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], boolean, "
    "Array(float32, 2, 'C', True), int64[:, ::1], float32[:, :, ::1], int64[:, :, ::1], float32[:, :, ::1])"
)
def write_input(
    read: Array,
    marks: Array,
    modes: Array,
    looked_at: Array,
    nows: Array,
    has_clock: bool,
    vectors: Array,
    items: Array,
    rows: Array,
    codes: Array,
    anchors: Array,
) -> None:
    """Write the tower's input: `items` (b, e), `rows` (b, e, D), `codes` (b, 2, e), `anchors` (b, 1, e); padded by 0.

    `modes` (b,) says how the session is read; the item `looked_at` (b,) comes last. Vectors are (n, D).
    """
    items[:], codes[:], anchors[:] = 0, 0, 0.0
    begin = 0
    for row in range(len(nows)):
        count, session = marks[2, row] - begin, marks[3, row]
        for event in range(count):
            item, kind, time = read[0, begin + event], read[1, begin + event], read[2, begin + event]
            items[row, event], rows[row, event] = item, vectors[item]
            codes[row, 0, event] = _code(event, kind, (nows[row] - time) // DAY, has_clock)
            if event < session and modes[row] == HISTORY:
                codes[row, 1, event] = codes[row, 0, event]
        if modes[row] == DETAIL:
            items[row, count], rows[row, count] = looked_at[row], vectors[looked_at[row]]
            codes[row, 1, count] = _code(0, _VIEW, 0, has_clock)
            anchors[row, 0, count] = 1.0
            count += 1
        rows[row, count:] = 0.0
        begin = marks[2, row]
