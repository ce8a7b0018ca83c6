"""The user tower in plain torch for one shopper at a time, without padding: what a per-shopper simulator trains."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.bench.peers.work import SMALL, Sums, Work
from model.features import POSITION_BUCKETS, log_bucket, positions_from_end
from model.two_tower import age_buckets

ShopperTensors = tuple[Tensor, ...]


class Tower(nn.Module):
    """Sampled-softmax loss of one shopper; see `model.gradient` for the formulas."""

    gain: Tensor
    prior_scale: Tensor
    kind_weight: Tensor
    position_weight: Tensor
    age_weight: Tensor
    context: Tensor
    item_vectors: Tensor

    def __init__(self, work: Work) -> None:
        """Take the model of the work; everything in it trains but the item bias."""
        super().__init__()
        for name in SMALL:
            setattr(self, name, nn.Parameter(torch.from_numpy(work.weights[name].copy())))
        self.item_vectors = nn.Parameter(torch.from_numpy(work.vectors.copy()))
        self.item_bias = torch.from_numpy(work.weights["item_bias"])
        self.log_q = torch.from_numpy(work.log_q.astype(np.float32))

    def loss(
        self,
        items: Tensor,
        kinds: Tensor,
        positions: Tensor,
        ages: Tensor,
        codes: Tensor,
        targets: Tensor,
        negatives: Tensor,
    ) -> Tensor:
        """Return the loss of one shopper, whose arrays hold nothing absent."""
        a = torch.exp(self.kind_weight[kinds] + self.position_weight[positions] + self.age_weight[ages])
        pooled = a @ functional.embedding(items, self.item_vectors) / a.sum().sqrt()
        user = self.gain * pooled + self.context[codes].sum(dim=0)
        candidates = torch.cat([targets, negatives])
        prior = self.prior_scale * self.item_bias[candidates] - self.log_q[candidates]
        logits = functional.embedding(candidates, self.item_vectors) @ user + prior
        wanted, rest = logits[: len(targets)], torch.logsumexp(logits[len(targets) :], dim=0)
        return functional.softplus(rest - wanted).mean()


def tensors_of(work: Work, shoppers: int) -> list[ShopperTensors]:
    """Return the arguments of `Tower.loss` for each of the first shoppers."""
    histories, examples = work.examples.histories, work.examples
    positions = log_bucket(positions_from_end(histories.indptr), POSITION_BUCKETS)
    ages = age_buckets(histories, examples.moments)
    events = [histories.items.astype(np.int64), histories.kinds.astype(np.int64), positions, ages]
    found = []
    for s in range(shoppers):
        own = slice(histories.indptr[s], histories.indptr[s + 1])
        candidates = [each[s][each[s] >= 0] for each in (examples.targets, examples.negatives)]
        arrays = [*(column[own] for column in events), examples.moments.codes[s], *candidates]
        found.append(tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
    return found


def sums_of(gradients: dict[str, Tensor]) -> Sums:
    """Return tensors by parameter name as arrays."""
    return {name: value.detach().numpy().copy() for name, value in gradients.items()}
