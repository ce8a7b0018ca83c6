"""The words of a federation round: what the coordinator asks and what a participant answers.

A message carries a `Task` (scalars) and public arrays; an answer carries a `Receipt` (scalars) and, unless it
refuses, the contribution as named parts. Arrays travel as raw tensors with declared type and shape; nothing
that is received is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

PROTOCOL = "1"
"""Version of these words: nodes and coordinator of a federation must have the same."""

TASK = "task"
PUBLIC = "public"
CONTRIBUTION = "contribution"
RECEIPT = "receipt"

SECURE = "secure"
"""The record of a message of secure aggregation; in a question it names its release under `RELEASE_ID`."""

MASKED = "masked"
"""The record of a contribution under masks, with one array of bytes: arrays travel in pieces, of whatever length."""

RELEASE_ID = "release_id"

REFUSAL = "refusal"
"""The record of an answer that gives nothing but `REASON`."""

REASON = "reason"

DEVICES = "devices"
"""Holder of the events on shoppers' own devices, and the part of a contribution that sums over devices."""

EVERYONE = "everyone"
"""The part of a contribution that sums over all participants of a cohort (gradients)."""

AXES = "axes"
"""The public array in which baskets are read."""

FUSION_START, FUSION_UNITS = "fusion_start", "fusion_units"
"""The public arrays that the fusion's step starts from, and in whose units it reads the features."""

BASIS = "basis/"
"""Prefix of the public array in which the histories of a part are read."""

MERCHANT_PART = "merchant:"
"""Prefix of a part that covers one merchant's own catalogue."""

INLINE_BYTES = 1024 * 1024
"""Messages up to this size carry their content themselves, and not as objects that are asked for one by one."""

LARGEST_LAYOUT = 2**28
"""Most entries of one sum, all parts together."""


class Phase(StrEnum):
    """What secure aggregation asks in messages of its own, in order; contributions come with the training task."""

    ADVERTISE = "advertise"
    SHARE = "share"
    CONFIRM = "confirm"
    UNMASK = "unmask"


Scalar = str | int | float | bool
Record = Mapping[str, object]


class WireError(ValueError):
    """A record of a round message lacks a field or has one of the wrong type."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a participant is asked for in one round.

    Attributes:
        release_id: names the release in every ledger; a repetition is charged once.
        model_hash: of the whole question (`proto.question`); under masks a participant compares it.
        clipping_norm: L2 bound on one shopper's share.
        noise_multiplier, mu2, cap_mu2: of the plan; all zero under trust `none`, where nothing is charged.
        steps: local steps (trust `local`).
        expected_shoppers: public constant that scales local steps.
        clock: whether event times are seconds.
        loss: name of the loss of a gradient round (`model.losses`).
        seed: of the random moments and negatives in tests and simulation; negative: the system's entropy.
        noise_seed: of the noise in tests and simulation; negative: the system's entropy.
        basket_kinds: event kinds that make a basket, separated by commas; empty: none does.
        minimum_cohort: fewest participants whose sum is released.
        secure: whether the contribution leaves under the masks of secure aggregation only.
        layout: name and length of each part of the sum, as `layout_words` writes them.
    """

    release_id: str
    stage: str
    round: int
    model_hash: str
    trust: str
    clipping_norm: float
    noise_multiplier: float
    mu2: float
    cap_mu2: float
    steps: int
    expected_shoppers: int
    clock: bool
    seed: int
    noise_seed: int
    loss: str = "sampled_softmax"
    basket_kinds: str = ""
    minimum_cohort: int = 1
    secure: bool = False
    layout: str = "[]"

    def to_record(self) -> dict[str, Scalar]:
        """Return the fields as a flat record."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Read a task; `WireError` names a missing or wrong field."""
        return cls(**_read(cls, record))


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What an answer answers; `refused` holds the reason where nothing was contributed."""

    release_id: str
    stage: str
    round: int
    model_hash: str
    participants: int
    refused: str = ""

    def to_record(self) -> dict[str, Scalar]:
        """Return the fields as a flat record."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Read a receipt; `WireError` names a missing or wrong field."""
        return cls(**_read(cls, record))


def layout_words(lengths: Mapping[str, int]) -> str:
    """Return the names and lengths of the parts of a sum as one word; a part without entries is left out."""
    return json.dumps([[name, length] for name, length in lengths.items() if length])


def layout_of(task: Task) -> dict[str, int]:
    """Return name and length of each part of the sum that is asked for.

    Raises:
        WireError: the layout is no such list, or longer than any sum may be.
    """
    try:
        pairs = json.loads(task.layout)
        found = dict(pairs)
        sound = all(type(name) is str and type(length) is int and length > 0 for name, length in pairs)
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound or len(found) < len(pairs) or sum(found.values()) > LARGEST_LAYOUT:
        raise WireError(
            f"the layout of round {task.round} ({task.stage}) is no list of different parts, each with its length, "
            f"of at most {LARGEST_LAYOUT:,} entries together; the coordinator must send one"
        )
    return found


_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def _read(cls: type, record: Record) -> dict[str, Any]:
    """Return the declared fields of a record, each of the declared type."""
    values: dict[str, Any] = {}
    for field in fields(cls):
        wanted = _TYPES[str(field.type)]
        value = record.get(field.name)
        if type(value) is not wanted:
            raise WireError(
                f"field {field.name} of a {cls.__name__} is {type(value).__name__}; it must be {field.type}"
            )
        values[field.name] = value
    return values
