"""Local private training with Opacus: under trust `local` only a noised update leaves a participant.

One Opacus sample is one shopper. Opacus computes and clips the per-shopper gradients; the noise comes from the
same source as every other release (`privacy.mechanism`), since Opacus' secure mode needs a package that is no
longer kept. Every shopper takes part in every step, so a step is one Gaussian release and the ledger's price
is exact without subsampling.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

from model.sampling import Examples
from model.schema import Weights
from model.torch_tower import TowerLoss, pack
from privacy.mechanism import GaussianSum

LOCAL_LEARNING_RATE = 0.1
CHUNK = 256
"""Shoppers whose gradients are in memory at once; a step may have any number."""


class NoisedByMechanism(DPOptimizer):
    """Opacus' optimiser with noise from our mechanism instead of torch's seeded generator."""

    def __init__(self, module: GradSampleModule, mechanism: GaussianSum, expected_batch: int) -> None:
        """Clip to the mechanism's norm and divide by a public expected number of shoppers."""
        super().__init__(
            torch.optim.SGD(module.parameters(), lr=LOCAL_LEARNING_RATE),
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.clipping_norm,
            expected_batch_size=expected_batch,
            loss_reduction="mean",  # of the step; what is released is still the sum
        )
        self._mechanism = mechanism
        self.released: dict[str, NDArray[np.float64]] = {}
        self._names = {id(p): name.removeprefix("_module.") for name, p in module.named_parameters()}

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
) -> dict[str, NDArray[np.float32]]:
    """Train `steps` DP-SGD steps and return the mean noised gradient sum over the steps, by parameter.

    Args:
        examples_of_step: examples (one per shopper) of step 0, 1, ...
        mechanism: clipping norm and noise of every single step.
        expected_batch: public constant that scales the local steps; never the true number of shoppers.
    """
    loss = TowerLoss(weights, vectors, log_q, trained)
    module = GradSampleModule(loss, loss_reduction="sum", force_functorch=True, strict=False)
    optimiser = NoisedByMechanism(module, mechanism, expected_batch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # examples have no gradient
        for step in range(steps):
            _step(module, optimiser, torch.from_numpy(pack(examples_of_step(step))))
    return {name: (total / steps).astype(np.float32) for name, total in optimiser.released.items()}


def _step(module: GradSampleModule, optimiser: NoisedByMechanism, packed: torch.Tensor) -> None:
    """Make one DP-SGD step over all shoppers, in chunks that add up before the noise is drawn once."""
    chunks = torch.split(packed, CHUNK)
    for number, chunk in enumerate(chunks):
        optimiser.zero_grad()
        optimiser.signal_skip_step(do_skip=number + 1 < len(chunks))
        module(chunk).sum().backward()
        optimiser.step()
    optimiser.zero_grad()
