"""The declared parameters: what fits passes, and everything else is refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import ModelError, ShapeError
from model.features import CONTEXT_ROWS, FUSION_FEATURES, KINDS, SURFACES
from model.schema import COMPLEMENT_LIMIT, Schema, UserTower, Weights, check, complement_of, user_tower_of

SCHEMA = Schema(items=5, content_features=7, dim=3)


def test_zero_weights_have_every_declared_shape_and_pass() -> None:
    """All parameters exist once, in float32, in the order of the schema."""
    weights = SCHEMA.zeros()
    assert {name: value.shape for name, value in weights.items()} == SCHEMA.shapes()
    assert list(weights) == list(SCHEMA.shapes())
    assert weights["item_id"].shape == (5, 3)
    assert weights["content"].shape == (7, 3)
    assert weights["context"].shape == (CONTEXT_ROWS, 3)
    assert weights["kind_weight"].shape == (len(KINDS),)
    check(weights, SCHEMA)


def _without_gain(weights: Weights) -> None:
    del weights["gain"]


def _with_a_stranger(weights: Weights) -> None:
    weights["stranger"] = np.zeros(1, np.float32)


def _one_item_more(weights: Weights) -> None:
    weights["item_id"] = np.zeros((6, 3), np.float32)


def _flat(weights: Weights) -> None:
    weights["content"] = weights["content"].ravel()


def _doubles(weights: Weights) -> None:
    weights.update(item_bias=weights["item_bias"].astype(np.float64))


def _nan(weights: Weights) -> None:
    weights["gain"][1] = np.nan


def _infinite(weights: Weights) -> None:
    weights["prior_scale"][0] = -np.inf


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_without_gain, "the schema declares"),
        (_with_a_stranger, "stranger"),
        (_one_item_more, r"item_id is float32 \(6, 3\).*\(5, 3\)"),
        (_flat, r"content is float32 \(21,\)"),
        (_doubles, "item_bias is float64"),
        (_nan, "gain holds values that are not finite"),
        (_infinite, "prior_scale holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(damage: object, named: str) -> None:
    """A missing or unknown name, another shape, another type, NaN and infinity each have a message."""
    weights = SCHEMA.zeros()
    assert callable(damage)
    damage(weights)
    with pytest.raises(ShapeError, match=named) as refusal:
        check(weights, SCHEMA)
    assert isinstance(refusal.value, ModelError) and isinstance(refusal.value, ValueError)


def test_the_attention_tower_has_one_parameter_more_and_is_known_by_it() -> None:
    """A pooling version neither has nor accepts attention, so that versions of old stay what they are."""
    wide = Schema(items=5, content_features=7, dim=3, user_tower=UserTower.ATTENTION)
    weights = wide.zeros()
    assert set(weights) - set(SCHEMA.zeros()) == {"attention"} and weights["attention"].shape == (3,)
    assert (
        user_tower_of(weights) is UserTower.ATTENTION and user_tower_of(SCHEMA.zeros()) is UserTower.POOLING
    )
    check(weights, wide)
    with pytest.raises(ShapeError, match="attention"):
        check(weights, SCHEMA)


@pytest.mark.parametrize("columns", [1, 4, COMPLEMENT_LIMIT])
def test_versions_with_and_without_what_the_surfaces_learn_both_fit(columns: int) -> None:
    """Complement vectors may have 1 to 64 columns, the fusion one row per surface; a version of old has neither."""
    weights = SCHEMA.zeros()
    assert complement_of(weights).shape == (5, 0)
    weights["complement"] = np.ones((5, columns), np.float32)
    check(weights, SCHEMA)
    assert complement_of(weights).shape == (5, columns)
    weights["fusion"] = np.ones((len(SURFACES), len(FUSION_FEATURES)), np.float32)
    check(weights, SCHEMA)


@pytest.mark.parametrize(
    ("name", "shape", "named"),
    [
        ("complement", (5, 0), r"complement is float32 \(5, 0\).*\(5, 1\)"),
        ("complement", (5, COMPLEMENT_LIMIT + 1), r"complement is float32 \(5, 65\).*\(5, 64\)"),
        ("complement", (4, 2), r"complement is float32 \(4, 2\).*\(5, 2\)"),
        ("complement", (), r"complement is float32 \(\)"),
        ("fusion", (6, 5), r"fusion is float32 \(6, 5\).*\(6, 6\)"),
    ],
)
def test_learned_tables_of_another_shape_are_refused_by_name(
    name: str, shape: tuple[int, ...], named: str
) -> None:
    """The message says what is there and what is declared."""
    weights = {**SCHEMA.zeros(), name: np.zeros(shape, np.float32)}
    with pytest.raises(ShapeError, match=named):
        check(weights, SCHEMA)


@pytest.mark.parametrize("name", ["complement", "fusion"])
def test_learned_tables_that_are_not_finite_are_refused(name: str) -> None:
    """Infinity in a learned table would order a whole ranking."""
    weights = {
        **SCHEMA.zeros(),
        name: np.full((5, 2) if name == "complement" else (6, 6), np.inf, np.float32),
    }
    with pytest.raises(ShapeError, match=f"{name} holds values that are not finite"):
        check(weights, SCHEMA)
