"""The parameters of the two towers: names, shapes, and the flat vector that crosses the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.features import AGE_BUCKETS, CONTEXT_ROWS, FUSION_FEATURES, KINDS, POSITION_BUCKETS, SURFACES

Weights = dict[str, NDArray[np.float32]]

COMPLEMENT = "complement"
"""(items, c): products of these vectors say what is specifically bought together. Not every version has them."""

FUSION = "fusion"
"""(surfaces, features): what each part of a score counts on each surface. Not every version has learned it."""

COMPLEMENT_LIMIT = 64
"""Largest number c of columns of the complement vectors."""


class UserTower(StrEnum):
    """How a history becomes a user vector: weighted by kind, position, age and rarity alone, or also by attention."""

    POOLING = "pooling"
    ATTENTION = "attention"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Sizes that fix every parameter of the model; public, agreed before the first round."""

    items: int
    content_features: int
    dim: int
    user_tower: UserTower = UserTower.POOLING

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter, in wire order."""
        attention = {"attention": (self.dim,)} if self.user_tower is UserTower.ATTENTION else {}
        return {
            "item_id": (self.items, self.dim),
            "content": (self.content_features, self.dim),
            "item_bias": (self.items,),
            "prior_scale": (1,),
            "gain": (self.dim,),
            "kind_weight": (len(KINDS),),
            "position_weight": (POSITION_BUCKETS,),
            "age_weight": (AGE_BUCKETS,),
            "rarity": (1,),
            "context": (CONTEXT_ROWS, self.dim),
            **attention,
        }

    def zeros(self) -> Weights:
        """Return every parameter as zeros."""
        return {name: np.zeros(shape, dtype=np.float32) for name, shape in self.shapes().items()}


def user_tower_of(weights: Weights) -> UserTower:
    """Return which user tower some weights are of."""
    return UserTower.ATTENTION if "attention" in weights else UserTower.POOLING


def complement_of(weights: Weights) -> NDArray[np.float32]:
    """Return the complement vectors (items, c) of a model version; c is 0 where it has learned none."""
    items = len(weights["item_bias"])
    return weights.get(COMPLEMENT, np.zeros((items, 0), dtype=np.float32))


def check(weights: Weights, schema: Schema) -> None:
    """Refuse weights whose names, shapes, type or values are not those of the schema.

    What only some versions have learned, complement vectors and fusion weights, may be there or not.

    Raises:
        ShapeError: names the parameter, what it has and what is declared.
    """
    shapes = {**schema.shapes(), **_learned_shapes(weights, schema)}
    if set(weights) != set(shapes):
        raise ShapeError(f"parameters are {sorted(weights)}; the schema declares {sorted(shapes)}")
    for name, shape in shapes.items():
        value = weights[name]
        if value.shape != shape or value.dtype != np.float32:
            raise ShapeError(f"{name} is {value.dtype} {value.shape}; the schema declares float32 {shape}")
        if not np.isfinite(value).all():
            raise ShapeError(f"{name} holds values that are not finite; discard this model version")


def _learned_shapes(weights: Weights, schema: Schema) -> dict[str, tuple[int, ...]]:
    """Return the declared shapes of what these weights hold beyond every version's parameters."""
    shapes: dict[str, tuple[int, ...]] = {}
    if COMPLEMENT in weights:
        columns = weights[COMPLEMENT].shape[-1] if weights[COMPLEMENT].ndim else 0
        shapes[COMPLEMENT] = (schema.items, min(max(columns, 1), COMPLEMENT_LIMIT))
    if FUSION in weights:
        shapes[FUSION] = (len(SURFACES), len(FUSION_FEATURES))
    return shapes
