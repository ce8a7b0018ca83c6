"""Envelopes: 1 to 64 events of one shopper, written as JSON columns and sealed for one row of the store."""

import json
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from client.events import COLUMN_NAMES, Columns
from privacy import cipher
from privacy.cipher import FieldCipher, aad_of
from privacy.errors import DecryptionError
from privacy.schema import RECORD_VERSION

ENVELOPE_EVENTS: Final = 64
"""Most events of one envelope; sealing many at once costs little more than sealing one."""

SEALED_NAMES: Final = tuple(name for name in COLUMN_NAMES if name != "shopper")
"""The columns inside an envelope; whose they are stands in the row."""

_VERSION: Final = "v"
_COUNT: Final = "n"
_write_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_read_json = json.JSONDecoder().decode


class ShopperSeal:
    """Seals and opens the rows of one shopper in one table; each is bound to holder, table, column and row."""

    __slots__ = ("_cipher", "_place")

    def __init__(self, key: bytes, key_id: int, holder: str, shopper: str, table: str = "events") -> None:
        """Take a data key of the shopper and its number; the sealed column is called "sealed" in every table."""
        self._cipher = FieldCipher(key, key_id)
        self._place = _column_place(holder, table) + aad_of(shopper)

    def seal(self, number: int, payload: bytes) -> bytes:
        """Seal a payload as the shopper's row `number`."""
        return self._cipher.seal(payload, self._place + aad_of(number))

    def open(self, number: int, sealed: bytes) -> bytes:
        """Return the payload of row `number`, or raise `DecryptionError`."""
        return self._cipher.open(sealed, self._place + aad_of(number))


def key_id_of(sealed: bytes) -> int:
    """Return the id of the data key in a sealed row's header; 0, which no key has, if it is too short for one.

    Nobody has vouched for it before the row opened under that key.
    """
    try:
        return cipher.key_id_of(sealed)
    except DecryptionError:
        return 0


def encode(columns: Columns, positions: Sequence[int], names: Sequence[str] = SEALED_NAMES) -> bytes:
    """Return the payload with the events of `columns` at ascending `positions`.

    A column in which all of them agree is written as that one value, and one that holds nothing is left out.
    Only the columns called `names` are looked at: whoever knows that the others hold nothing saves the time.
    """
    payload: dict[str, Any] = {_VERSION: RECORD_VERSION, _COUNT: len(positions)}
    take = _taker(positions)
    for name in names:
        values = take(getattr(columns, name))
        first = values[0]
        if values.count(first) < len(values):
            payload[name] = values
        elif first is not None:
            payload[name] = first
    return _write_json(payload).encode()


def decode(payload: bytes) -> dict[str, list[Any]]:
    """Return the columns (without the shopper) inside a payload; `DecryptionError` if it has another form."""
    try:
        found = _read_json(payload.decode())
        version, count = found.pop(_VERSION), found.pop(_COUNT)
        nothing = [None] * count
        columns = dict.fromkeys(SEALED_NAMES, nothing)
        for name, value in found.items():
            columns[name] = value if isinstance(value, list) else [value] * count
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DecryptionError("an envelope opened but holds no events in the known form") from None
    if (
        version != RECORD_VERSION
        or len(columns) > len(SEALED_NAMES)
        or {*map(len, columns.values())} != {count}
    ):
        raise DecryptionError(f"an envelope opened but holds no events of version {RECORD_VERSION}")
    return columns


def names_in_use(columns: Columns) -> list[str]:
    """Return the sealed columns that hold anything at all."""
    return [name for name in SEALED_NAMES if any(value is not None for value in getattr(columns, name))]


def _taker(positions: Sequence[int]) -> Any:
    """Return a function that takes the values at `positions` out of a column."""
    first, last = positions[0], positions[-1]
    if last - first + 1 == len(positions):
        return itemgetter(slice(first, last + 1))
    pick = itemgetter(*positions)
    return lambda column: list(pick(column))


@lru_cache(maxsize=1024)
def _column_place(holder: str, table: str) -> bytes:
    return aad_of("fedrank/store", RECORD_VERSION, holder, table, "sealed")
