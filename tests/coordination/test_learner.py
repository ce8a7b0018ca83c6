"""What the coordinator learns from released sums: never more than the noise allows to see."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from run_words import public_items

from model.head import Head
from model.schema import check
from model.spectral import GramBlock
from server.coordination.learner import LEAST_COUNT, TRAINED, Learner
from server.coordination.optimiser import LEARNING_RATE, RATES, Adam

MERCHANTS = ["a"] * 60 + ["b"] * 60 + ["c"]


def learner() -> Learner:
    """A fresh learner over 121 items of three merchants."""
    return Learner(public_items(MERCHANTS), dim=4, shoppers=100)


def started(seed: int = 0) -> Learner:
    """A learner at its spectral start from random counts and a random Gram."""
    random, fresh = np.random.default_rng(seed), learner()
    fresh.learn_counts(random.gamma(2.0, size=121), 0.1, 1.0, [np.arange(121)])
    shares = random.normal(size=(40, len(fresh.head)))
    fresh.learn_gram([block(fresh.head, shares.T @ shares, 0.1)])
    return fresh


def block(head: Head, gram: NDArray[np.float64], noise_std: float) -> GramBlock:
    """What was released over a head."""
    return GramBlock(head=head, basis=None, gram=gram, noise_std=noise_std, popular_strength=1.0)


def test_the_start_is_nothing_but_public_facts() -> None:
    """Before any release all weights are zero and all items are equally likely."""
    fresh = learner()
    assert all(not value.any() for value in fresh.weights.values())
    np.testing.assert_allclose(fresh.probabilities, 1.0 / 121)


@pytest.mark.parametrize("noise_std", [0.0, 3.0])
def test_counts_below_two_deviations_tell_nothing(noise_std: float) -> None:
    """Negative and small noisy counts are floored, so that every item can be drawn as a negative."""
    counts = np.linspace(-20.0, 40.0, 121)
    fresh = learner()
    fresh.learn_counts(counts, noise_std, 0.0, [np.arange(121)])
    floor = max(LEAST_COUNT, 2.0 * noise_std)
    assert fresh.probabilities.sum() == pytest.approx(1.0)
    assert fresh.probabilities.min() == pytest.approx(floor / np.maximum(counts, floor).sum())
    assert len(set(fresh.probabilities[counts < floor])) == 1


def test_each_group_has_a_head_of_its_most_counted_items() -> None:
    """Items that can never be liked together do not push each other out of the head."""
    counts = np.concatenate([np.arange(60.0) + 1000, np.arange(60.0), [0.0]])
    owners = [np.arange(60), np.arange(60, 120), np.array([120])]
    fresh = learner()
    fresh.learn_counts(counts, 0.0, 1e6, owners)  # so much noise that each head has its smallest size
    expected = np.concatenate([np.arange(10, 60), np.arange(70, 120), [120]])
    np.testing.assert_array_equal(fresh.head.items, expected)
    np.testing.assert_array_equal(fresh.head.popularity, np.maximum(counts[expected], LEAST_COUNT))


def test_a_gram_without_any_signal_leaves_a_model_that_can_rank() -> None:
    """An empty merchant and a Gram drowned in noise give finite weights of the declared shapes."""
    fresh = learner()
    fresh.learn_counts(np.zeros(121), 1.0, 10.0, [np.arange(121)])
    size = len(fresh.head)
    noise = np.random.default_rng(0).normal(size=(size, size))
    empty = block(fresh.head.at(np.zeros(0, dtype=np.int64)), np.zeros((0, 0)), 1.0)
    fresh.learn_gram([empty, block(fresh.head, noise + noise.T, np.sqrt(2.0))])
    check(fresh.weights, fresh.schema)


def test_a_gradient_moves_only_trained_parameters_downhill() -> None:
    """The first Adam step has the size of the learning rate against the sign of the gradient."""
    model = started()
    before = {name: value.copy() for name, value in model.weights.items()}
    random = np.random.default_rng(1)
    total = {name: random.choice([-50.0, 50.0], before[name].size) for name in TRAINED}
    model.learn_gradient(total)
    for name, value in before.items():
        if name not in TRAINED:
            np.testing.assert_array_equal(model.weights[name], value)
            continue
        step = -np.sign(total[name]).reshape(value.shape) * LEARNING_RATE * RATES.get(name, 1.0)
        np.testing.assert_allclose(model.weights[name] - value, step, rtol=1e-3)


def test_a_gradient_of_zeros_moves_nothing_at_the_start() -> None:
    """A round in which nobody had anything to say is a valid round."""
    model = started()
    before = {name: value.copy() for name, value in model.weights.items()}
    model.learn_gradient({name: np.zeros(before[name].size) for name in TRAINED})
    for name, value in before.items():
        np.testing.assert_array_equal(model.weights[name], value)


def test_adam_is_the_published_rule() -> None:
    """Three steps agree with the rule of Kingma & Ba written out with explicit moments."""
    random = np.random.default_rng(2)
    gradients = random.normal(size=(3, 5))
    value, first, second, adam = np.zeros(5, dtype=np.float32), np.zeros(5), np.zeros(5), Adam()
    expected = np.zeros(5)
    for step, gradient in enumerate(gradients, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        expected -= 0.02 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        value = adam.apply({"gain": value}, {"gain": gradient})["gain"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_what_participants_are_shown_has_been_released() -> None:
    """The public model holds the trained parameters, the item vectors, their bias and the probabilities."""
    shown = started().public_model()
    assert set(shown) == {*TRAINED, "item_vectors", "item_bias", "q"}
    assert all(np.isfinite(value.astype(np.float64)).all() for value in shown.values())
