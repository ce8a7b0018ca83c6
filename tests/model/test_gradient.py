"""The closed-form gradient: equal to Opacus' per-sample gradients and to finite differences of its loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus import GradSampleModule
from tower_world import (
    Vectors,
    random_examples,
    random_log_q,
    random_vectors,
    random_weights,
)

from model.attention import SHARPNESS
from model.features import AGE_BUCKETS, DAY, POSITION_BUCKETS
from model.gradient import ITEM_VECTORS, CohortGradient, cohort_gradient
from model.losses import Loss
from model.sampling import Examples
from model.schema import UserTower, Weights
from model.torch_tower import PARAMETERS, TowerLoss, pack

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

Doubles = dict[str, NDArray[np.float64]]

EVERYTHING = frozenset({*PARAMETERS, "attention", ITEM_VECTORS})
SMALL = EVERYTHING - {ITEM_VECTORS}


class World:
    """One random cohort with a model and public probabilities."""

    def __init__(
        self,
        seed: int,
        *,
        shoppers: int = 6,
        items: int = 12,
        dim: int = 4,
        longest: int = 30,
        loss: Loss = Loss.SAMPLED_SOFTMAX,
    ) -> None:
        """Draw everything from one seed."""
        self.loss = loss
        random = np.random.default_rng(seed)
        self.examples: Examples = random_examples(random, shoppers=shoppers, items=items, longest=longest)
        self.weights: Weights = random_weights(random, items=items, dim=dim, user_tower=UserTower.ATTENTION)
        self.vectors: Vectors = random_vectors(random, items=items, dim=dim)
        self.log_q = random_log_q(random, items)

    def closed_form(self) -> CohortGradient:
        """What the platform computes."""
        return cohort_gradient(self.weights, self.vectors, self.examples, self.log_q, self.loss)

    def opacus(self, trained: frozenset[str] = EVERYTHING) -> Doubles:
        """Per-shopper gradients (shoppers, ...) of each trained parameter, from Opacus' functorch path.

        In double precision, so that a difference is an error of ours.
        """
        loss = TowerLoss(self.weights, self.vectors, self.log_q, trained, self.loss).double()
        module = GradSampleModule(loss, loss_reduction="sum", force_functorch=True, strict=False)
        module(torch.from_numpy(pack(self.examples))).sum().backward()
        return {
            name.removeprefix("_module."): parameter.grad_sample.double().numpy()
            for name, parameter in module.named_parameters()
        }


def squared_norms(gradients: Doubles) -> NDArray[np.float64]:
    """Squared L2 norm of each shopper over all given gradients."""
    squares = [np.square(gradient).reshape(len(gradient), -1).sum(axis=1) for gradient in gradients.values()]
    return np.asarray(np.sum(squares, axis=0), dtype=np.float64)


worlds = st.builds(
    World,
    st.integers(0, 2**32),
    shoppers=st.integers(1, 12),
    items=st.integers(1, 40),
    dim=st.integers(1, 8),
    longest=st.sampled_from([0, 1, 5, 100]),
    loss=st.sampled_from(Loss),
)


@settings(max_examples=30, deadline=None)
@given(worlds)
def test_norms_and_clipped_sums_are_those_of_opacus(world: World) -> None:
    """Over random shapes, empty and one-event histories, unknown clocks and absent negatives, to 1e-5."""
    ours, theirs = world.closed_form(), world.opacus()
    assert theirs.keys() == EVERYTHING
    norms = np.sqrt(squared_norms(theirs))
    np.testing.assert_allclose(np.sqrt(ours.squared_norms(EVERYTHING)), norms, rtol=1e-5, atol=1e-5)
    clipping_norm = float(np.median(norms)) + 1e-3
    factors = np.minimum(1.0, clipping_norm / np.maximum(norms, 1e-12))
    total = ours.weighted_sum(factors, EVERYTHING)
    for name, gradient in theirs.items():
        expected = np.tensordot(factors, gradient, axes=1)
        np.testing.assert_allclose(total[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


@settings(max_examples=10, deadline=None)
@given(worlds, st.integers(0, 11))
def test_every_shopper_has_the_gradient_that_opacus_gives_it(world: World, chosen: int) -> None:
    """The factored form unfolds to each shopper's own gradient, for each parameter."""
    ours, theirs = world.closed_form(), world.opacus()
    shopper = chosen % len(world.examples)
    alone = ours.weighted_sum(np.eye(len(world.examples))[shopper], EVERYTHING)
    each = ours.per_shopper(EVERYTHING)
    assert each.keys() == theirs.keys()
    for name in EVERYTHING:
        np.testing.assert_allclose(alone[name], theirs[name][shopper], rtol=1e-5, atol=1e-5, err_msg=name)
        assert each[name].shape == theirs[name].shape and each[name].dtype == np.float32
        np.testing.assert_allclose(each[name], theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_the_norm_counts_exactly_the_trained_parameters(name: str) -> None:
    """A parameter that is not trained neither adds to the norm nor appears in the sum."""
    world, trained = World(7), frozenset({name})
    ours, theirs = world.closed_form(), world.opacus(trained)
    assert theirs.keys() == trained
    np.testing.assert_allclose(ours.squared_norms(trained), squared_norms(theirs), rtol=1e-4, atol=1e-9)
    assert ours.squared_norms(trained).max() > 0
    assert ours.weighted_sum(np.ones(len(world.examples)), trained).keys() == trained
    assert ours.per_shopper(trained).keys() == trained


def slow_loss(
    weights: Doubles,
    vectors: NDArray[np.float64],
    units: NDArray[np.float64],
    example: Examples,
    log_q: NDArray[np.float64],
) -> float:
    """Loss of one shopper in double precision, written down event by event from the formulas in the docs."""
    history, now = example.histories, int(example.moments.times[0])
    total, pooled = 0.0, np.zeros(vectors.shape[1])
    for place, (item, kind, time) in enumerate(zip(history.items, history.kinds, history.times, strict=True)):
        newer = len(history.items) - 1 - place
        logit = weights["kind_weight"][kind] + weights["position_weight"][bucket(newer, POSITION_BUCKETS)]
        if now >= 0:
            logit += weights["age_weight"][bucket((now - int(time)) // DAY, AGE_BUCKETS)]
        logit -= weights["rarity"][0] * weights["item_bias"][item]
        logit += SHARPNESS * float((weights["attention"] * units[history.items[-1]]) @ units[item])
        total += np.exp(logit)
        pooled += np.exp(logit) * vectors[item]
    user = weights["gain"] * pooled / np.sqrt(total) if total else pooled
    user = user + sum(weights["context"][code] for code in example.moments.codes[0] if code >= 0)
    logits = vectors @ user + weights["prior_scale"][0] * weights["item_bias"] - log_q
    targets = [target for target in example.targets[0] if target >= 0]
    negatives = np.exp([logits[item] for item in example.negatives[0] if item >= 0]).sum()
    losses = [np.log(np.exp(logits[target]) + negatives) - logits[target] for target in targets]
    return float(np.mean(losses)) if losses else 0.0


def bucket(value: int, buckets: int) -> int:
    """floor(log2(value + 1)), at most the last bucket."""
    return min((value + 1).bit_length() - 1, buckets - 1)


def central_difference(loss: Callable[[Doubles], float], at: Doubles, name: str) -> NDArray[np.float64]:
    """Numerical gradient of `loss` on one parameter."""
    step, slopes = 1e-5, np.zeros(at[name].size)
    for place in range(at[name].size):
        moved = [{**at, name: at[name].copy()} for _ in range(2)]
        moved[0][name].flat[place] += step
        moved[1][name].flat[place] -= step
        slopes[place] = (loss(moved[0]) - loss(moved[1])) / (2 * step)
    return slopes.reshape(at[name].shape)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_the_slope_of_the_documented_loss(seed: int) -> None:
    """Central differences of an independent loss in double precision agree to 1e-5 for every parameter."""
    world = World(seed, shoppers=5, items=7, dim=3, longest=9)
    ours = world.closed_form()
    named = (*PARAMETERS, "attention", "item_bias")
    at = {name: world.weights[name].astype(np.float64) for name in named}
    at[ITEM_VECTORS] = world.vectors.astype(np.float64)
    units = at[ITEM_VECTORS] / np.linalg.norm(at[ITEM_VECTORS], axis=1, keepdims=True)
    for shopper in range(5):
        example = world.examples.select(np.array([shopper]))
        alone = ours.weighted_sum(np.eye(5)[shopper], EVERYTHING)

        def loss(values: Doubles, example: Examples = example) -> float:
            return slow_loss(values, values[ITEM_VECTORS], units, example, world.log_q)

        assert ours.losses[shopper] == pytest.approx(loss(at), rel=1e-5, abs=1e-6)
        for name in EVERYTHING:
            slope = central_difference(loss, at, name)
            np.testing.assert_allclose(alone[name], slope, rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_gradient_stays_exact_where_logits_are_far_apart() -> None:
    """A target a thousand above the other leaves the gradient of the other as it is; nothing underflows."""
    world = World(3, shoppers=2, items=12, dim=2, longest=4)
    weights = {**world.weights, "item_bias": np.zeros(12, np.float32), "prior_scale": np.ones(1, np.float32)}
    weights["item_bias"][0] = 1000.0
    targets = np.full_like(world.examples.targets, -1)
    targets[:, :2] = [0, 1]
    negatives = np.where(world.examples.negatives >= 0, world.examples.negatives % 10 + 2, -1)
    world.weights = weights
    world.examples = Examples(world.examples.histories, world.examples.moments, targets, negatives)
    ours, theirs = world.closed_form(), world.opacus()
    np.testing.assert_allclose(
        ours.squared_norms(SMALL), squared_norms({n: theirs[n] for n in SMALL}), rtol=1e-4
    )
    assert ours.factors.errors_t[0, 1] > -0.5, (
        "the second target competes with the negatives, not with the first target"
    )


def test_who_has_no_target_has_no_gradient_and_no_loss() -> None:
    """Such a shopper adds exactly nothing, whatever its history holds."""
    world = World(5)
    none = np.full_like(world.examples.targets, -1)
    world.examples = Examples(
        world.examples.histories, world.examples.moments, none, world.examples.negatives
    )
    ours = world.closed_form()
    assert not ours.squared_norms(EVERYTHING).any()
    assert not ours.losses.any()


def test_a_cohort_of_nobody_adds_nothing() -> None:
    """An empty cohort gives zero sums of the right shapes, so that a participant without shoppers can answer."""
    world = World(5, shoppers=3)
    world.examples = world.examples.select(np.zeros(0, dtype=np.int64))
    total = world.closed_form().weighted_sum(np.zeros(0), EVERYTHING)
    assert {name: value.shape for name, value in total.items()} == {
        name: (world.vectors if name == ITEM_VECTORS else world.weights[name]).shape for name in EVERYTHING
    }
    assert not any(value.any() for value in total.values())


def test_a_pooling_tower_has_no_gradient_of_attention() -> None:
    """Its weights hold no attention: nothing is computed, clipped or sent for it, and the rest is as before."""
    world = World(9)
    plain = {**world.weights, "attention": np.zeros_like(world.weights["attention"])}
    world.weights = plain
    still = world.closed_form()
    world.weights = {name: value for name, value in plain.items() if name != "attention"}
    ours = world.closed_form()
    assert "attention" not in ours.small and still.small["attention"].any()
    pooling = EVERYTHING - {"attention"}
    np.testing.assert_array_equal(ours.squared_norms(pooling), still.squared_norms(pooling))


def test_an_item_without_a_vector_takes_no_attention() -> None:
    """The vector of an item outside the head may be zero: its events keep their weight and the gradient is finite."""
    world = World(11)
    world.vectors[::2] = 0.0
    assert np.isfinite(world.closed_form().squared_norms(EVERYTHING)).all()
