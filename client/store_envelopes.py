"""Envelopes: 1 to 64 events of one shopper, written as JSON columns and sealed for one row of the store."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from client import store_schema as tables
from client.events import COLUMN_NAMES, Columns
from privacy.cipher import FieldCipher, aad_of
from privacy.errors import DecryptionError
from privacy.keyring import HolderKeys

ENVELOPE_EVENTS: Final = 64
"""Most events of one envelope; sealing many at once costs little more than sealing one."""

_FIRST_KEY_ID: Final = 1
_VERSION_FIELD: Final = "v"
_SEALED_NAMES: Final = tuple(name for name in COLUMN_NAMES if name != "shopper")
_write_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class ShopperSeal:
    """Seals and opens the envelopes of one shopper; each is bound to its holder, table, column and row."""

    __slots__ = ("_cipher", "_place")

    def __init__(self, data_key: bytes, key_id: int, holder: str, shopper: str) -> None:
        """Take the shopper's data key and its number."""
        self._cipher = FieldCipher(data_key, key_id)
        self._place = _place(holder, "events", "sealed", shopper)

    def seal(self, number: int, columns: Columns, positions: Sequence[int]) -> bytes:
        """Seal the events of `columns` at `positions` as the shopper's row `number`."""
        return self._cipher.seal(_encode(columns, positions), self._place + aad_of(number))

    def open(self, number: int, sealed: bytes) -> dict[str, list[Any]]:
        """Return the columns (without the shopper) of row `number`, or raise `DecryptionError`."""
        return _decode(self._cipher.open(sealed, self._place + aad_of(number)))


def new_key(keys: HolderKeys, shopper: str) -> tuple[int, bytes]:
    """Make a data key for a shopper of the holder: its number, and the key wrapped for storage."""
    _, wrapped = keys.new_data_key(_key_place(keys.holder_id, shopper, _FIRST_KEY_ID))
    return _FIRST_KEY_ID, wrapped


def seal_of(keys: HolderKeys, shopper: str, key_id: int, wrapped: bytes) -> ShopperSeal:
    """Return the seal of a shopper from the stored data key, or raise `DecryptionError`."""
    holder = keys.holder_id
    return ShopperSeal(keys.unwrap(wrapped, _key_place(holder, shopper, key_id)), key_id, holder, shopper)


def new_key_check(keys: HolderKeys) -> bytes:
    """Return a wrapped random key that only this holder's keys can open."""
    return keys.new_data_key(_place(keys.holder_id, "holders", "key_check", ""))[1]


def passes_key_check(keys: HolderKeys, check: bytes) -> bool:
    """Tell whether `check` was made with these keys."""
    try:
        keys.unwrap(check, _place(keys.holder_id, "holders", "key_check", ""))
    except DecryptionError:
        return False
    return True


def _place(holder: str, table: str, column: str, shopper: str) -> bytes:
    return _column_place(holder, table, column) + aad_of(shopper)


@lru_cache(maxsize=1024)
def _column_place(holder: str, table: str, column: str) -> bytes:
    return aad_of("fedrank/store", tables.SCHEMA_VERSION, holder, table, column)


def _key_place(holder: str, shopper: str, key_id: int) -> bytes:
    return _place(holder, "data_keys", "wrapped", shopper) + aad_of(key_id)


def _encode(columns: Columns, positions: Sequence[int]) -> bytes:
    payload: dict[str, Any] = {_VERSION_FIELD: tables.SCHEMA_VERSION}
    for name in _SEALED_NAMES:
        column = getattr(columns, name)
        values = [column[position] for position in positions]
        if any(value is not None for value in values):
            payload[name] = values
    return _write_json(payload).encode()


def _decode(payload: bytes) -> dict[str, list[Any]]:
    try:
        found = json.loads(payload)
        version, count = found.pop(_VERSION_FIELD), len(found["timestamp"])
        columns = {name: found.pop(name, None) or [None] * count for name in _SEALED_NAMES}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DecryptionError("an envelope opened but holds no events in the known form") from None
    if version != tables.SCHEMA_VERSION or found or any(len(values) != count for values in columns.values()):
        raise DecryptionError(f"an envelope opened but holds no events of version {tables.SCHEMA_VERSION}")
    return columns
