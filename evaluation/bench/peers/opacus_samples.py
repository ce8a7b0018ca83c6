"""Opacus: per-sample gradients by GradSampleModule, clipped and summed by its optimiser; a sample is a shopper."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from evaluation.bench.peers.measuring import Cohort, Measured, measured, most
from evaluation.bench.peers.tower import ShopperTensors, Tower, sums_of, tensors_of
from evaluation.bench.peers.work import CLIPPING_NORM, Sums, Work
from model.sampling import NEGATIVES, TARGET_LIMIT

FIXED = [4, TARGET_LIMIT, NEGATIVES]
"""Columns of the moment's codes, of targets and of negatives."""

BATCH = 20
"""Shoppers per physical batch: each has a dense gradient of the item vectors, and is padded to the longest."""


class PaddedTower(Tower):
    """The tower over a batch of shoppers, -1 where a shopper has less than the longest; one tensor per call."""

    def forward(self, packed: Tensor) -> Tensor:
        """Return the loss of each shopper."""
        items, kinds, positions, ages, codes, targets, negatives = torch.split(packed, _widths(packed), dim=1)
        there = items >= 0
        logits = self.kind_weight[_index(kinds)] + self.position_weight[_index(positions)]
        a = torch.exp(logits + self.age_weight[_index(ages)]) * there
        pooled = (a.unsqueeze(-1) * self.item_vectors[_index(items)]).sum(dim=1)
        pooled = pooled / a.sum(dim=1, keepdim=True).sqrt()
        user = self.gain * pooled + self.context[codes].sum(dim=1)
        rest = torch.logsumexp(self._logits(user, negatives), dim=1, keepdim=True)
        losses = functional.softplus(rest - self._logits(user, targets))
        real = targets >= 0
        return torch.where(real, losses, 0.0).sum(dim=1) / real.sum(dim=1)

    def _logits(self, user: Tensor, items: Tensor) -> Tensor:
        index = _index(items)
        found = (self.item_vectors[index] * user.unsqueeze(1)).sum(dim=-1)
        found = found + self.prior_scale * self.item_bias[index] - self.log_q[index]
        return torch.where(items >= 0, found, -1e30)


def measure(work: Work, cohorts: Sequence[Cohort]) -> Measured:
    """Measure Opacus on each cohort."""
    warnings.filterwarnings("ignore", message="Full backward hook is firing|In CPU autocast")
    shoppers, tower = tensors_of(work, most(cohorts)), PaddedTower(work)
    named: dict[str, Any] = dict(tower.named_parameters())  # Opacus puts `summed_grad` on each
    module = GradSampleModule(tower, loss_reduction="sum", force_functorch=True, strict=False)
    optimiser = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIPPING_NORM,
        expected_batch_size=1,
    )

    def step(cohort: Cohort) -> Sums:
        batches = _batches(shoppers, cohort)
        for number, batch in enumerate(batches):
            module(_packed([shoppers[s] for s in batch])).sum().backward()
            optimiser.signal_skip_step(do_skip=number < len(batches) - 1)
            optimiser.step()
            if number < len(batches) - 1:
                optimiser.zero_grad()
        sums = sums_of({name: parameter.summed_grad for name, parameter in named.items()})
        optimiser.zero_grad()
        return sums

    return measured(step, cohorts)


def _batches(shoppers: list[ShopperTensors], cohort: Cohort) -> list[NDArray[np.int64]]:
    """Return the cohort in physical batches of shoppers of like length, so that little is padding."""
    order = cohort[np.argsort([len(shoppers[s][0]) for s in cohort])]
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def _packed(batch: list[ShopperTensors]) -> Tensor:
    """Return a batch as one tensor: the events padded to the longest history, the candidates to their limits."""
    kinds = [list(each) for each in zip(*batch, strict=True)]
    columns = [pad_sequence(each, batch_first=True, padding_value=-1) for each in kinds]
    limits = [column.shape[1] for column in columns[:-2]] + FIXED[1:]
    pairs = zip(columns, limits, strict=True)
    return torch.cat(
        [functional.pad(each, (0, limit - each.shape[1]), value=-1) for each, limit in pairs], dim=1
    )


def _widths(packed: Tensor) -> list[int]:
    """Return how many columns each kind of array takes."""
    return [(packed.shape[1] - sum(FIXED)) // 4] * 4 + FIXED


def _index(values: Tensor) -> Tensor:
    """Return indices that are safe to look up; what is absent is masked by the caller."""
    return values.clamp(min=0)
