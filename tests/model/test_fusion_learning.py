"""The step from the public constants: it finds planted weights, and stays where there is nothing but noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.features import FUSION_FEATURES, SURFACES
from model.fusion import fusion_weights, unlearned
from model.fusion_learning import (
    MOST,
    NUMBERS,
    SIDE,
    TAUGHT_SURFACES,
    feature_units,
    learned_fusion,
    start_of,
)
from model.schema import Schema, Weights, check

Array = NDArray[np.float64]
SCHEMA = Schema(items=30, content_features=3, dim=4)
UNITS = np.array([0.5, 0.5, 0.25, 1.0])


def weights() -> Weights:
    """A released model without a learned table."""
    random = np.random.default_rng(1)
    found = SCHEMA.zeros()
    found.update(
        item_bias=random.normal(size=30).astype(np.float32),
        complement=random.normal(size=(30, 2)).astype(np.float32),
        gain=np.ones(4, np.float32),
        prior_scale=np.array([0.3], np.float32),
    )
    return found


def statistics(wished: Array, begin: Array, count: float) -> Array:
    """Sums whose Newton step leads from `begin` to `wished` (taught, SIDE), from `count` clipped examples."""
    curvature = count * (np.eye(SIDE) + 0.2)
    upper = (curvature * np.where(np.eye(SIDE, dtype=bool), 1.0, np.sqrt(2.0)))[np.triu_indices(SIDE)]
    return np.array([np.append(curvature @ (to - at), upper) for to, at in zip(wished, begin, strict=True)])


def row(learned: Weights, surface: str) -> dict[str, float]:
    """The learned weights of one surface by name."""
    table = fusion_weights(learned)[SURFACES.index(surface)]
    return dict(zip(FUSION_FEATURES, table.tolist(), strict=True))


def test_a_clear_signal_moves_what_the_surface_is_taught_and_nothing_else() -> None:
    """Cart and detail learn all parts but the prior, home its session; words and freshness stay constants."""
    begin = start_of(weights(), UNITS)
    wished = begin + np.array([[0.3, 0.5, 0.3, 0.2]] * 3)
    learned = learned_fusion(weights(), statistics(wished, begin, 1e7), 1.0, UNITS)
    check(learned, SCHEMA)
    before = weights()
    far = learned_fusion(weights(), statistics(begin + 100.0, begin, 1e7), 1.0, UNITS)
    assert row(far, "cart")["session"] == pytest.approx(MOST * row(before, "cart")["session"])
    cart = row(learned, "cart")
    expected = wished[TAUGHT_SURFACES.index("cart")] / UNITS
    assert [cart[name] for name in ("affinity", "session", "complement")] == pytest.approx(
        expected[:3], rel=1e-3
    )
    assert cart["prior"] == row(before, "cart")["prior"]
    for surface in ("home", "new_arrivals", "promotion"):
        changed = {
            name for name, value in row(learned, surface).items() if value != row(before, surface)[name]
        }
        assert changed == {"session"}  # home has no anchors: its complement stays at 0
    assert row(learned, "search") == row(before, "search")
    assert row(learned, "new_arrivals")["fresh"] == row(before, "new_arrivals")["fresh"]


def test_below_the_noise_the_public_constants_stay() -> None:
    """A gradient no longer than its noise moves nothing, and a strong one under strong noise moves little."""
    begin = start_of(weights(), UNITS)
    wished = begin + 1.0
    silent = learned_fusion(weights(), statistics(wished, begin, 1.0), 50.0, UNITS)
    np.testing.assert_array_equal(fusion_weights(silent), unlearned(weights()))
    noise = np.random.default_rng(0).normal(size=(3, NUMBERS))
    by_chance = [learned_fusion(weights(), 100.0 * seed * noise, 100.0 * seed, UNITS) for seed in (1, 7)]
    for learned in by_chance:
        np.testing.assert_allclose(fusion_weights(learned), unlearned(weights()), atol=1.5)
    half = learned_fusion(weights(), statistics(wished, begin, 1000.0), 100.0, UNITS)
    moved = row(half, "cart")["affinity"] - row(weights(), "cart")["affinity"]
    assert 0.3 / UNITS[0] < moved < 0.95 / UNITS[0]


def test_a_feature_that_no_example_has_is_left_alone() -> None:
    """Home has no anchors: noise alone would move a part that is always zero there."""
    begin = start_of(weights(), UNITS)
    told = statistics(begin + 1.0, begin, 1e5)
    rows, columns = np.triu_indices(SIDE)
    complement = 2
    told[:, SIDE:][:, (rows == complement) | (columns == complement)] = 0.0
    learned = learned_fusion(weights(), told, 1.0, UNITS)
    for surface in ("home", "cart"):
        assert row(learned, surface)["complement"] == row(weights(), surface)["complement"]
    assert row(learned, "cart")["affinity"] > row(weights(), "cart")["affinity"]


def test_no_surface_learns_to_show_what_is_unlike_the_shopper() -> None:
    """A step below zero ends at zero."""
    begin = start_of(weights(), UNITS)
    learned = learned_fusion(weights(), statistics(begin - 5.0, begin, 1e6), 1.0, UNITS)
    for surface in ("cart", "detail"):
        assert [row(learned, surface)[name] for name in ("affinity", "session", "complement")] == [0.0] * 3
        assert row(learned, surface)["prior"] > 0


def test_units_are_positive_and_public_also_where_a_part_is_missing() -> None:
    """They are the same for everybody, and a model without complement vectors has a unit all the same."""
    random = np.random.default_rng(2)
    vectors = random.normal(size=(30, 4)).astype(np.float32)
    chances = random.dirichlet(np.ones(30))
    units = feature_units(weights(), vectors, chances)
    np.testing.assert_array_equal(units, feature_units(weights(), vectors, chances))
    assert units.shape == (SIDE,) and (units > 0).all() and units[0] == units[1]
    bare = {name: value for name, value in weights().items() if name != "complement"}
    assert feature_units(bare, vectors, chances)[2] == 1.0
    np.testing.assert_allclose(start_of(weights(), units) / units, start_of(weights(), np.ones(SIDE)))
