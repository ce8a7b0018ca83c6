"""A plain loop over shoppers in torch: one backward pass and one clipping for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.bench.peers.measuring import Cohort, Measured, measured, most
from evaluation.bench.peers.tower import ShopperTensors, Tower, sums_of, tensors_of
from evaluation.bench.peers.work import CLIPPING_NORM, Sums, Work


def clipped_gradient(tower: Tower, shopper: ShopperTensors) -> dict[str, Tensor]:
    """Return one shopper's gradient of every parameter, shortened to the clipping norm over all of them."""
    names, parameters = zip(*tower.named_parameters(), strict=True)
    gradients = torch.autograd.grad(tower.loss(*shopper), parameters)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients]))
    factor = (CLIPPING_NORM / norm).clamp(max=1.0)
    return {name: each.mul_(factor) for name, each in zip(names, gradients, strict=True)}


def measure(work: Work, cohorts: Sequence[Cohort]) -> Measured:
    """Measure the loop on each cohort."""
    tower, shoppers = Tower(work), tensors_of(work, most(cohorts))

    def step(cohort: Cohort) -> Sums:
        total = {name: torch.zeros_like(value) for name, value in tower.named_parameters()}
        for s in cohort:
            for name, each in clipped_gradient(tower, shoppers[s]).items():
                total[name] += each
        return sums_of(total)

    return measured(step, cohorts)
