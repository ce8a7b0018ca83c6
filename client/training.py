"""Local private training with Opacus: under trust `local` only a noised update leaves a participant.

One Opacus sample is one shopper. The gradient samples are the closed form of `model.gradient`, which a test holds
equal to those of Opacus' own GradSampleModule; Opacus' optimiser clips and sums them and takes the steps. The
noise comes from the same source as every other release (`privacy.mechanism`), since Opacus' secure mode needs a
package that is no longer kept. Every shopper takes part in every step, so a step is one Gaussian release and the
ledger's price is exact without subsampling.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from model.gradient import ITEM_VECTORS, cohort_gradient
from model.losses import Loss
from model.sampling import Examples
from model.schema import Weights
from privacy.mechanism import GaussianSum

LOCAL_LEARNING_RATE = 0.1
CHUNK = 256
"""Shoppers whose gradients are in memory at once; a step may have any number."""


class NoisedByMechanism(DPOptimizer):
    """Opacus' optimiser with noise from our mechanism instead of torch's seeded generator."""

    def __init__(
        self, parameters: dict[str, torch.nn.Parameter], mechanism: GaussianSum, expected_batch: int
    ) -> None:
        """Clip to the mechanism's norm and divide by a public expected number of shoppers."""
        super().__init__(
            torch.optim.SGD(parameters.values(), lr=LOCAL_LEARNING_RATE),
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.clipping_norm,
            expected_batch_size=expected_batch,
            loss_reduction="mean",  # of the step; what is released is still the sum
        )
        self._mechanism = mechanism
        self.released: dict[str, NDArray[np.float64]] = {}
        self._names = {id(parameter): name for name, parameter in parameters.items()}

    def add_noise(self) -> None:
        """Release the clipped sum of every parameter; what is released is also what is sent."""
        for parameter in self.params:
            noisy = self._mechanism.release(parameter.summed_grad.double().numpy())
            name = self._names[id(parameter)]
            self.released[name] = self.released.get(name, 0.0) + noisy
            parameter.grad = torch.from_numpy(noisy).to(parameter.dtype).view_as(parameter)


def local_update(
    weights: Weights,
    vectors: NDArray[np.float32],
    examples_of_step: Callable[[int], Examples],
    log_q: NDArray[np.float64],
    trained: frozenset[str],
    mechanism: GaussianSum,
    *,
    steps: int,
    expected_batch: int,
    loss: Loss = Loss.SAMPLED_SOFTMAX,
) -> dict[str, NDArray[np.float64]]:
    """Train `steps` DP-SGD steps and return the mean noised gradient sum over the steps, by parameter.

    Args:
        examples_of_step: examples (one per shopper) of step 0, 1, ...
        mechanism: clipping norm and noise of every single step.
        expected_batch: public constant that scales the local steps; never the true number of shoppers.
    """
    start = {**weights, ITEM_VECTORS: vectors}
    parameters = {name: torch.nn.Parameter(torch.from_numpy(start[name].copy())) for name in sorted(trained)}
    optimiser = NoisedByMechanism(parameters, mechanism, expected_batch)
    for step in range(steps):
        now = {**start, **{name: value.detach().numpy() for name, value in parameters.items()}}
        _step(optimiser, parameters, now, examples_of_step(step), log_q, loss)
    return {name: total / steps for name, total in optimiser.released.items()}


def _step(
    optimiser: NoisedByMechanism,
    parameters: dict[str, torch.nn.Parameter],
    weights: Weights,
    examples: Examples,
    log_q: NDArray[np.float64],
    loss: Loss,
) -> None:
    """Make one DP-SGD step over all shoppers, in chunks that add up before the noise is drawn once."""
    starts = range(0, max(len(examples), 1), CHUNK)
    for start in starts:
        chunk = examples.select(np.arange(start, min(start + CHUNK, len(examples))))
        gradient = cohort_gradient(weights, weights[ITEM_VECTORS], chunk, log_q, loss)
        for name, each in _finite(gradient.per_shopper(frozenset(parameters))).items():
            sample = torch.from_numpy(each).reshape(len(chunk), *parameters[name].shape)
            parameters[name].grad_sample = sample  # type: ignore[attr-defined]  # Opacus reads it here
        optimiser.signal_skip_step(do_skip=start != starts[-1])
        optimiser.step()
        optimiser.zero_grad()


def _finite(samples: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return gradient samples with those of a shopper cleared who has any value that is not finite.

    Opacus clips by multiplying: a NaN would pass, and infinity times zero is one.
    """
    kept = np.logical_and.reduce(
        [np.isfinite(each).all(axis=tuple(range(1, each.ndim))) for each in samples.values()]
    )
    if kept.all():
        return samples
    return {
        name: np.where(kept.reshape(-1, *[1] * (each.ndim - 1)), each, 0) for name, each in samples.items()
    }
