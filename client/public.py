"""What a coordinator may send: public arrays of the names, shapes and sizes that their stage declares.

They are checked before anything is charged or computed, against public facts alone: whether a question is answered
tells nothing about a shopper. Within `LARGEST` no history can make a tower overflow: user vectors stay below 1e21,
slopes of an event weight below 1e35, and float32 reaches 3e38. What overflows all the same adds nothing to a sum
(`client.contribution`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.cohort import Unit
from model.fusion_learning import SIDE, TAUGHT_SURFACES
from model.gradient import ITEM_VECTORS
from model.schema import COMPLEMENT, COMPLEMENT_LIMIT, Schema, UserTower
from privacy.plan import Stage
from proto.federation import AXES, BASIS, DEVICES, FUSION_START, FUSION_UNITS, WireError

Public = Mapping[str, NDArray[np.generic]]

LARGEST = 1e6
"""Bound on a value of a released model, far above what any federation learns."""

LARGEST_COUNT = 1e15
"""Bound on a popularity, in shoppers."""

LEAST_POSITIVE = 1e-15
"""Bound from below on what is divided by."""

HEAD, POPULARITY, Q = "head", "popularity", "q"
"""The public arrays of the head items, of their popularity, and of the chances with which negatives are drawn."""


class Declared(NamedTuple):
    """What one public array must be: its shape (-1: any length), and bounds on its values."""

    shape: tuple[int, ...]
    least: float = -LARGEST
    largest: float = LARGEST
    whole: bool = False


def check_public(stage: str, public: Public, catalogue_size: int, units: Sequence[Unit]) -> None:
    """Refuse public arrays that are not those of the stage.

    Raises:
        WireError: names the array, what it is and what it must be.
    """
    declared = _declared(stage, public, catalogue_size, units)
    if missing := sorted(declared.keys() - public.keys()):
        raise WireError(
            f"a question of stage {stage} lacks the array {missing[0]!r}; the coordinator must send it"
        )
    for name in sorted(public):
        if name in declared:
            _check(name, public[name], declared[name])
        elif not (stage == Stage.SUBSPACE and name.startswith(BASIS)):  # the basis of somebody else's part
            raise WireError(
                f"a question of stage {stage} has an array {name!r} that the stage does not declare; update this "
                "participant, or ask without it"
            )


def _declared(stage: str, public: Public, items: int, units: Sequence[Unit]) -> dict[str, Declared]:
    """Return what a question of the stage must hold."""
    if stage == Stage.GRAM:
        return _head(items, _length(public, HEAD))
    if stage == Stage.SUBSPACE:
        return {**_head(items, _length(public, HEAD)), **_bases(public, units)}
    if stage == Stage.BASKETS:
        return {AXES: Declared((items, min(_length(public, AXES, axis=1), COMPLEMENT_LIMIT)))}
    if stage == Stage.GRADIENT:
        return _model(public, items)
    if stage == Stage.FUSION:
        return {**_model(public, items), **_fusion(public, items)}
    return {}


def _head(items: int, length: int) -> dict[str, Declared]:
    return {
        HEAD: Declared((length,), 0, items - 1, whole=True),
        POPULARITY: Declared((length,), LEAST_POSITIVE, LARGEST_COUNT),
    }


def _bases(public: Public, units: Sequence[Unit]) -> dict[str, Declared]:
    """Return the basis that each unit reads: its own where it has one, else the one that all share."""
    head = public.get(HEAD, np.zeros(0, np.int64))
    declared: dict[str, Declared] = {}
    for unit in units:
        own = BASIS + unit.part
        if own in public and unit.part != DEVICES:
            declared[own] = Declared((int(np.isin(head, unit.items).sum()), -1))
        else:
            declared[BASIS + DEVICES] = Declared((head.size, -1))
    return declared


def _model(public: Public, items: int) -> dict[str, Declared]:
    """Return the user tower of the released model, the item vectors, and the chances of the draw."""
    dim = _length(public, ITEM_VECTORS, axis=1)
    tower = UserTower.ATTENTION if "attention" in public else UserTower.POOLING
    shapes = Schema(items=items, content_features=0, dim=dim, user_tower=tower).shapes()
    sent = {name: Declared(shape) for name, shape in shapes.items() if name not in ("item_id", "content")}
    return {**sent, ITEM_VECTORS: Declared((items, dim)), Q: Declared((items,), 0.0, 1.0)}


def _fusion(public: Public, items: int) -> dict[str, Declared]:
    declared = {
        FUSION_START: Declared((len(TAUGHT_SURFACES), SIDE)),
        FUSION_UNITS: Declared((SIDE,), LEAST_POSITIVE),
    }
    if COMPLEMENT in public:
        columns = _length(public, COMPLEMENT, axis=1)
        declared[COMPLEMENT] = Declared((items, min(columns, COMPLEMENT_LIMIT)))
    return declared


def _length(public: Public, name: str, axis: int = 0) -> int:
    """Return the length of an axis that the array itself may choose; 0 where it has no such axis."""
    shape = public[name].shape if name in public else ()
    return shape[axis] if len(shape) > axis else 0


def _check(name: str, value: NDArray[np.generic], declared: Declared) -> None:
    """Refuse an array of another type or shape, or with a value outside the bounds; NaN lies outside all."""
    kinds, word = ("iu", "whole numbers") if declared.whole else ("f", "floating point")
    if value.dtype.kind not in kinds:
        raise WireError(f"the public array {name!r} has type {value.dtype}; it must be {word}")
    wanted = tuple(
        have if want < 0 else want for have, want in zip(value.shape, declared.shape, strict=False)
    )
    if value.shape != wanted or len(value.shape) != len(declared.shape):
        raise WireError(f"the public array {name!r} has shape {value.shape}; it must be {declared.shape}")
    if value.size and not (declared.least <= value.min() and value.max() <= declared.largest):
        raise WireError(
            f"the public array {name!r} has values that are not within {declared.least:g} and {declared.largest:g}; "
            "the coordinator must not send it"
        )
