"""What participants and coordinator say to each other in the five phases of a round.

Each message is a frozen dataclass with a flat record of bytes and lists of them, as Flower carries them. Reading a
record checks every type, length and count, and makes nothing larger than the record itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from privacy.cipher import aad_of
from privacy.errors import CertificateError, SecureAggregationError
from privacy.secagg.identity import LARGEST_CERTIFICATE, LARGEST_SIGNATURE, check_name, statement
from privacy.secagg.manifest import LARGEST_BYTES, LARGEST_COHORT, LARGEST_LENGTH
from privacy.secagg.masks import KEY_BYTES, SEAL_OVERHEAD
from privacy.secagg.shamir import SHARE_BYTES

RecordValue = bytes | list[str] | list[bytes]
Record = Mapping[str, object]

PAIR_BYTES: Final = 2 * SHARE_BYTES
"""A share of a mask key and one of a self-mask seed."""
DIGEST_BYTES: Final = 32
_SEALED: Final = PAIR_BYTES + SEAL_OVERHEAD
_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "manifest": (1, LARGEST_BYTES),
    "certificate": (1, LARGEST_CERTIFICATE),
    "signature": (1, LARGEST_SIGNATURE),
    "sealing_key": (KEY_BYTES, KEY_BYTES),
    "masking_key": (KEY_BYTES, KEY_BYTES),
    "commitment": (DIGEST_BYTES, DIGEST_BYTES),
    "sealed": (_SEALED, _SEALED),
    "digests": (2 * DIGEST_BYTES, 2 * DIGEST_BYTES),
    "content": (1, 8 * LARGEST_LENGTH),
    "seeds": (SHARE_BYTES, SHARE_BYTES),
    "keys": (SHARE_BYTES, SHARE_BYTES),
}
"""Shortest and longest length of the bytes of each field, or of each entry of a field."""


class Message:
    """Base of all messages: fields of bytes, sorted names, or bytes by name; what a participant says is signed."""

    def to_record(self) -> dict[str, RecordValue]:
        """Return the fields as a flat record; a mapping becomes two lists, `names/FIELD` and FIELD."""
        record: dict[str, RecordValue] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Mapping):
                record[f"names/{field.name}"] = sorted(value)
                record[field.name] = [value[name] for name in sorted(value)]
            else:
                record[field.name] = list(value) if isinstance(value, tuple) else value
        return record

    def statement(self, digest: bytes, name: str) -> bytes:
        """Return what participant `name` signs: this message, in the round of this manifest digest."""
        hashed = hashlib.sha256()
        for field, value in self.to_record().items():
            if field not in ("signature", "certificate"):
                entries = value if isinstance(value, list) else [value]
                hashed.update(aad_of(field, len(entries)))
                for entry in entries:
                    hashed.update(len(entry).to_bytes(4, "big"))
                    hashed.update(entry if isinstance(entry, bytes) else entry.encode())
        return statement("message", digest, name, type(self).__name__, hashed.digest())

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Read a message; `SecureAggregationError` names the field that is missing, wrong, too long or too many."""
        kinds = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
        try:
            return cls(**{name: cls._field(record, name, kind) for name, kind in kinds.items()})
        except (CertificateError, _Unfit) as error:
            raise SecureAggregationError(f"a message {cls.__name__} cannot be read: {error}") from error

    @classmethod
    def _field(cls, record: Record, name: str, kind: str) -> Any:
        if kind == "bytes":
            return _bytes(record.get(name), name, _BOUNDS[name])
        if kind == "tuple[str, ...]":
            return tuple(_names(record.get(name), name))
        names = _names(record.get(f"names/{name}"), f"names/{name}")
        entries = _list(record.get(name), name)
        if len(entries) != len(names):
            raise _Unfit(f"field {name} has {len(entries)} entries for {len(names)} names")
        return {key: _bytes(entry, name, _BOUNDS[name]) for key, entry in zip(names, entries, strict=True)}


class _Unfit(ValueError):
    """A field of a record is not what the message declares."""


@dataclass(frozen=True, kw_only=True)
class Invitation(Message):
    """The coordinator's first word: the round's manifest, signed."""

    manifest: bytes
    certificate: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Advertisement(Message):
    """A participant's keys for this round, signed.

    Attributes:
        sealing_key, masking_key: X25519 public keys: for sealed shares, and for masks.
        commitment: to the seed of the participant's own mask.
        certificate: in DER.
    """

    sealing_key: bytes
    masking_key: bytes
    commitment: bytes
    certificate: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Roster(Message):
    """All advertisements, by name."""

    sealing_key: Mapping[str, bytes]
    masking_key: Mapping[str, bytes]
    commitment: Mapping[str, bytes]
    certificate: Mapping[str, bytes]
    signature: Mapping[str, bytes]

    @classmethod
    def of(cls, advertisements: Mapping[str, Advertisement]) -> Self:
        """Gather advertisements."""
        gathered = {
            field.name: {name: getattr(one, field.name) for name, one in advertisements.items()}
            for field in fields(Advertisement)
        }
        return cls(**gathered)

    def advertisements(self) -> dict[str, Advertisement]:
        """Return them by name; raises `SecureAggregationError` where a field lacks a name."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        if len({frozenset(column) for column in columns.values()}) != 1:
            raise SecureAggregationError(
                "the roster has not the same names in every field; it was cut on its way"
            )
        return {
            name: Advertisement(**{field: column[name] for field, column in columns.items()})
            for name in sorted(self.signature)
        }


@dataclass(frozen=True, kw_only=True)
class Shares(Message):
    """What a participant deals.

    Attributes:
        sealed: by receiver: a share of the mask key and one of the self-mask seed, encrypted.
        digests: by holder, oneself included: hashes of both shares, so that a false one is noticed later.
    """

    sealed: Mapping[str, bytes]
    digests: Mapping[str, bytes]
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Delivery(Message):
    """The sealed shares for one participant, by sender."""

    sealed: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Masked(Message):
    """A contribution under all its masks: little-endian integers of the manifest's type, in its layout's order."""

    content: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Survivors(Message):
    """Who contributed in time, as the coordinator says; sorted."""

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Confirmation(Message):
    """A participant's signature over what it was told: the keys, the dealers, the survivors."""

    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Confirmations(Message):
    """All confirmations, by name."""

    signature: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Unmasking(Message):
    """One's shares of secrets: of the self-mask seeds of survivors, of the mask keys of those who dropped out."""

    seeds: Mapping[str, bytes]
    keys: Mapping[str, bytes]
    signature: bytes


def _bytes(value: object, name: str, bounds: tuple[int, int]) -> bytes:
    if type(value) is not bytes or not bounds[0] <= len(value) <= bounds[1]:
        size = f"{len(value)} bytes" if type(value) is bytes else type(value).__name__
        raise _Unfit(f"field {name} holds {size}; it must be {bounds[0]} to {bounds[1]} bytes")
    return value


def _names(value: object, name: str) -> list[str]:
    names = _list(value, name)
    if not all(type(entry) is str for entry in names):
        raise _Unfit(f"field {name} holds something that is no name")
    if names != sorted(set(names)):
        raise _Unfit(f"field {name} is not sorted or names somebody twice")
    return [check_name(entry) for entry in names]


def _list(value: object, name: str) -> list[Any]:
    # Flower's ConfigRecord gives lists of its own class.
    if not isinstance(value, list | tuple) or len(value) > LARGEST_COHORT:
        raise _Unfit(f"field {name} is no list of at most {LARGEST_COHORT} entries")
    return list(value)
