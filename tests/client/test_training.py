"""Local private training: Opacus' step is the closed form, and what leaves is noised before it leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy import stats
from shopper_world import (
    DAY,
    TRAINED,
    Model,
    nearly_noiseless,
    norm_of,
    random_shoppers,
    shoppers_of,
    without,
)

from client import training
from client.contribution import gradient_share
from client.shoppers import Shoppers
from client.training import CHUNK, LOCAL_LEARNING_RATE, local_update
from model.gradient import ITEM_VECTORS
from model.sampling import Examples
from model.schema import Weights
from model.torch_tower import TowerLoss, pack
from privacy.mechanism import GaussianSum, SeededNoise

Update = dict[str, NDArray[np.float64]]

NORM = 0.8
EVERYTHING = TRAINED | {ITEM_VECTORS}


def updated(
    model: Model,
    shoppers: Shoppers,
    *,
    trained: frozenset[str] = TRAINED,
    mechanism: GaussianSum | None = None,
    steps: int = 1,
    expected_batch: int = 10,
) -> Update:
    """The local update of a cohort whose examples change with every step."""

    def examples(step: int) -> Examples:
        return model.examples(shoppers, round_number=step)

    return local_update(
        model.weights,
        model.vectors,
        examples,
        model.log_q,
        trained,
        mechanism or nearly_noiseless(NORM),
        steps=steps,
        expected_batch=expected_batch,
    )


def closed_form(model: Model, shoppers: Shoppers, trained: frozenset[str] = TRAINED, step: int = 0) -> Update:
    """The clipped gradient sum of one step."""
    examples = model.examples(shoppers, round_number=step)
    return gradient_share(model.weights, model.vectors, examples, model.log_q, trained, NORM)


def assert_same(found: Update, expected: Update) -> None:
    """Equal to 1e-5 of the length of the whole update, for every parameter."""
    assert found.keys() == expected.keys()
    scale = max(1.0, norm_of(expected))
    for name, value in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("trained", [TRAINED, EVERYTHING])
@pytest.mark.parametrize("count", [1, 2, 40, CHUNK, 2 * CHUNK + 1])
def test_without_noise_a_step_is_the_closed_form_clipped_sum(count: int, trained: frozenset[str]) -> None:
    """For one shopper and for cohorts that fill one chunk exactly or cross two, with item vectors or without."""
    model, shoppers = Model(count), random_shoppers(count, count)
    assert_same(updated(model, shoppers, trained=trained), closed_form(model, shoppers, trained))


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_the_size_of_a_chunk_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks bound the memory; their clipped sums add up before the noise is drawn, in both of two steps."""
    model, shoppers = Model(1), random_shoppers(2, 14)
    whole = updated(model, shoppers, steps=2)
    monkeypatch.setattr(training, "CHUNK", chunk)
    assert_same(updated(model, shoppers, steps=2), whole)


def stepped_by_opacus(
    model: Model, shoppers: Shoppers, trained: frozenset[str], steps: int, expected_batch: int
) -> Update:
    """The mean clipped sum over steps of plain Opacus: its own GradSampleModule and optimiser, without noise."""
    loss = TowerLoss(model.weights, model.vectors, model.log_q, trained)
    module = GradSampleModule(loss, loss_reduction="sum", force_functorch=True, strict=False)
    optimiser = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=LOCAL_LEARNING_RATE),
        noise_multiplier=0.0,
        max_grad_norm=NORM,
        expected_batch_size=expected_batch,
    )
    total: dict[str, NDArray[np.float64]] = {}
    for step in range(steps):
        optimiser.zero_grad()
        module(torch.from_numpy(pack(model.examples(shoppers, round_number=step)))).sum().backward()
        optimiser.step()
        for name, parameter in module.named_parameters():
            summed = parameter.summed_grad.double().numpy().copy()
            total[name.removeprefix("_module.")] = total.get(name.removeprefix("_module."), 0.0) + summed
    return {name: np.asarray(value / steps) for name, value in total.items()}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("trained", [TRAINED, EVERYTHING])
@pytest.mark.parametrize("steps", [1, 3])
def test_local_steps_are_those_of_plain_opacus(steps: int, trained: frozenset[str]) -> None:
    """Per-sample gradients, clipping, scaling and steps agree with Opacus' own, one sample being one shopper."""
    model, shoppers = Model(2), random_shoppers(4, 25)
    expected = stepped_by_opacus(model, shoppers, trained, steps, expected_batch=3)
    assert_same(updated(model, shoppers, trained=trained, steps=steps, expected_batch=3), expected)


def stepped_by_hand(model: Model, shoppers: Shoppers, steps: int, expected_batch: int) -> Update:
    """The mean clipped sum over steps, with the weights moved down each sum over the public batch size."""
    moving, total = Model(0), dict[str, NDArray[np.float64]]()
    moving.weights, moving.vectors, moving.q, moving.log_q = (
        dict(model.weights),
        model.vectors,
        model.q,
        model.log_q,
    )
    for step in range(steps):
        summed = closed_form(moving, shoppers, step=step)
        for name, value in summed.items():
            total[name] = total.get(name, np.zeros(value.shape)) + value
            mean = value.reshape(moving.weights[name].shape) / expected_batch
            moving.weights[name] = np.asarray(moving.weights[name] - LOCAL_LEARNING_RATE * mean, np.float32)
    return {name: np.asarray(value / steps) for name, value in total.items()}


@pytest.mark.parametrize("expected_batch", [2, 50])
def test_later_steps_start_where_the_public_batch_size_puts_them(expected_batch: int) -> None:
    """A step moves the weights by the sum over the *public* expected number of shoppers, never the true one."""
    model, shoppers = Model(3), random_shoppers(5, 30)
    found = updated(model, shoppers, steps=3, expected_batch=expected_batch)
    assert_same(found, stepped_by_hand(model, shoppers, 3, expected_batch))
    other = stepped_by_hand(model, shoppers, 3, 30)
    assert norm_of({name: found[name] - other[name] for name in found}) > 1e-3


def test_one_shopper_moves_a_step_by_at_most_the_norm() -> None:
    """Opacus clips per shopper over all parameters together, item vectors included."""
    model, shoppers = Model(6), random_shoppers(6, 12)
    model.vectors *= 20.0
    whole = updated(model, shoppers, trained=EVERYTHING)
    distances = []
    for leaver in range(12):
        rest = updated(model, without(shoppers, leaver), trained=EVERYTHING)
        distances.append(norm_of({name: whole[name] - rest[name] for name in whole}))
    assert max(distances) <= NORM * (1 + 1e-5)
    assert max(distances) > 0.99 * NORM, "somebody is clipped, or the bound would be tested by nobody"


class Recorder:
    """A noise source that gives zeros and remembers how many numbers each draw asked for."""

    def __init__(self) -> None:
        """Nothing has been asked for."""
        self.asked: list[int] = []

    def normal(self, count: int) -> NDArray[np.float64]:
        """Return zeros."""
        self.asked.append(count)
        return np.zeros(count)


@pytest.mark.parametrize("count", [3, CHUNK + 2])
def test_noise_is_drawn_once_per_parameter_and_step_however_many_chunks(count: int) -> None:
    """Every entry that leaves has had exactly one draw in each step."""
    model, recorder = Model(7), Recorder()
    mechanism = GaussianSum(clipping_norm=NORM, noise_multiplier=1.0, noise=recorder)
    update = updated(model, random_shoppers(7, count), mechanism=mechanism, steps=2)
    assert sorted(recorder.asked) == sorted([value.size for value in update.values()] * 2)


Refusers = Callable[[], Shoppers]


@pytest.mark.parametrize(
    "shoppers", [lambda: shoppers_of([]), lambda: shoppers_of([[(1, "dismiss", DAY)]] * 4)]
)
@pytest.mark.parametrize("steps", [1, 4])
def test_who_has_nothing_to_say_sends_noise_of_the_stated_strength(shoppers: Refusers, steps: int) -> None:
    """Without shoppers, or with ones who like nothing, the mean over steps is N(0, (z C)^2 / steps)."""
    model = Model(8, dim=300)
    mechanism = GaussianSum(clipping_norm=NORM, noise_multiplier=2.5, noise=SeededNoise(4))
    update = updated(model, shoppers(), mechanism=mechanism, steps=steps)
    noise = np.concatenate([value.ravel() for value in update.values()])
    assert {name: value.shape for name, value in update.items()} == {
        name: model.weights[name].shape for name in TRAINED
    }

    def p_value(std: float) -> float:
        squares = float(np.square(noise / std, dtype=np.float64).sum())
        return 2 * float(min(stats.chi2.cdf(squares, noise.size), stats.chi2.sf(squares, noise.size)))

    std = 2.5 * NORM / np.sqrt(steps)
    assert p_value(std) > 1e-6
    assert p_value(1.05 * std) < 1e-6 and p_value(0.95 * std) < 1e-6


def test_training_leaves_the_public_model_as_it_was() -> None:
    """Local steps move a copy: the weights in memory serve the next round."""
    model = Model(9)
    before: Weights = {name: value.copy() for name, value in model.weights.items()}
    vectors = model.vectors.copy()
    updated(model, random_shoppers(9, 5), trained=EVERYTHING, steps=2)
    assert all((model.weights[name] == before[name]).all() for name in before)
    np.testing.assert_array_equal(model.vectors, vectors)
