"""The user tower and its loss in torch: the reference for the closed form, and what Opacus differentiates.

Opacus' functorch path gives a module one tensor per call, so the examples of a cohort are packed into one float
tensor, one row per shopper: one row is one Opacus sample. What is not trained is a plain attribute, since a
buffer would stop that path; float32 holds every index below 2^24 exactly.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from model.attention import SHARPNESS, unit
from model.errors import ShapeError
from model.features import HISTORY_LIMIT, POSITION_BUCKETS, log_bucket, positions_from_end
from model.gradient import ITEM_VECTORS
from model.losses import Loss
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples
from model.schema import Weights
from model.two_tower import age_buckets

SECTIONS = [HISTORY_LIMIT] * 4 + [4, TARGET_LIMIT, NEGATIVES]
LARGEST_INDEX = 2**24
PARAMETERS = ("gain", "prior_scale", "kind_weight", "position_weight", "age_weight", "rarity", "context")


def sampled_softmax(logits_t: Tensor, logits_n: Tensor, present: Tensor) -> Tensor:
    """Return -log softmax of each target against the negatives, (shoppers, targets); absent ones are very low."""
    rest = torch.logsumexp(logits_n, dim=1, keepdim=True)
    return torch.logaddexp(logits_t, rest) - logits_t


def bpr(logits_t: Tensor, logits_n: Tensor, present: Tensor) -> Tensor:
    """Return the mean over the negatives that are `present` of log(1 + exp(x_n - x_t)), (shoppers, targets)."""
    pairs = softplus(logits_n.unsqueeze(1) - logits_t.unsqueeze(2)) * present.unsqueeze(1)
    return pairs.sum(dim=2) / present.sum(dim=1, keepdim=True).clamp(min=1.0)


def focal_bce(logits_t: Tensor, logits_n: Tensor, present: Tensor) -> Tensor:
    """Return f(x_t) + sum over negatives of f(-x_n), f(x) = sigmoid(-x)^2 softplus(-x), (shoppers, targets)."""
    focal_t = torch.sigmoid(-logits_t).square() * softplus(-logits_t)
    focal_n = torch.sigmoid(logits_n).square() * softplus(logits_n)
    return focal_t + (focal_n * present).sum(dim=1, keepdim=True)


TORCH_LOSSES = {Loss.SAMPLED_SOFTMAX: sampled_softmax, Loss.BPR: bpr, Loss.FOCAL_BCE: focal_bce}
"""The losses of `model.losses`: the reference for the compiled ones."""


class TowerLoss(nn.Module):
    """Loss of each shopper, (shoppers, 1), from packed examples (shoppers, sum of SECTIONS)."""

    gain: Tensor
    prior_scale: Tensor
    kind_weight: Tensor
    position_weight: Tensor
    age_weight: Tensor
    rarity: Tensor
    context: Tensor
    attention: Tensor
    item_vectors: Tensor

    def __init__(
        self,
        weights: Weights,
        vectors: NDArray[np.float32],
        log_q: NDArray[np.float64],
        trained: frozenset[str],
        loss: Loss = Loss.SAMPLED_SOFTMAX,
    ) -> None:
        """Take the parameters of a model version; those in `trained` become torch parameters."""
        super().__init__()
        if len(vectors) >= LARGEST_INDEX:
            raise ShapeError(
                f"the catalogue has {len(vectors)} items; packed examples hold fewer than {LARGEST_INDEX}"
            )
        for name in (*PARAMETERS, "attention") if "attention" in weights else PARAMETERS:
            self._hold(name, torch.from_numpy(weights[name].copy()), trained)
        self._hold(ITEM_VECTORS, torch.from_numpy(vectors.copy()), trained)
        self.unit_vectors = torch.from_numpy(unit(vectors))
        self.item_bias = torch.from_numpy(weights["item_bias"].copy())
        self.log_q = torch.from_numpy(log_q.astype(np.float32)) * float(loss.corrects_sampling)
        self._loss_of_targets = TORCH_LOSSES[loss]

    def _hold(self, name: str, value: Tensor, trained: frozenset[str]) -> None:
        setattr(self, name, nn.Parameter(value) if name in trained else value)

    def forward(self, packed: Tensor) -> Tensor:
        """Return the loss of each shopper; one without targets has loss 0."""
        items, kinds, positions, ages, codes, targets, negatives = torch.split(packed, SECTIONS, dim=1)
        vectors = self.item_vectors
        user = self._user(vectors, items, kinds, positions, ages, codes)
        prior = self.prior_scale * self.item_bias - self.log_q
        logits_t = self._logits(user, vectors, prior, targets)
        logits_n = self._logits(user, vectors, prior, negatives)
        losses = self._loss_of_targets(logits_t, logits_n, (negatives >= 0).float())
        real = (targets >= 0).float()
        share = real / real.sum(dim=1, keepdim=True).clamp(min=1.0)
        return torch.where(real > 0, share * losses, torch.zeros_like(losses)).sum(dim=1, keepdim=True)

    def _user(
        self, vectors: Tensor, items: Tensor, kinds: Tensor, positions: Tensor, ages: Tensor, codes: Tensor
    ) -> Tensor:
        """Return the user vectors (shoppers, dim)."""
        there = (items >= 0).float()
        logits = self.kind_weight[_index(kinds)] + self.position_weight[_index(positions)]
        logits = logits + self.age_weight[_index(ages)] * (ages >= 0).float()
        rare = torch.exp((-self.rarity * self.item_bias).clamp(-10.0, 10.0))
        a = torch.exp(logits.clamp(-10.0, 10.0)) * rare[_index(items)] * self._attention(items) * there
        total = a.sum(dim=1, keepdim=True)
        scale = torch.where(total > 0, total, torch.ones_like(total)).rsqrt()
        pooled = (a.unsqueeze(-1) * vectors[_index(items)]).sum(dim=1) * scale
        context = (self.context[_index(codes)] * (codes >= 0).float().unsqueeze(-1)).sum(dim=1)
        return self.gain * pooled + context

    def _attention(self, items: Tensor) -> Tensor:
        """Return the factor of each event's weight, (shoppers, events); the newest event is the first."""
        if not hasattr(self, "attention"):
            return torch.ones_like(items)
        units = self.unit_vectors[_index(items)]
        return torch.exp((SHARPNESS * (units[:, :1] * self.attention * units).sum(-1)).clamp(-10.0, 10.0))

    def _logits(self, user: Tensor, vectors: Tensor, prior: Tensor, items: Tensor) -> Tensor:
        """Return the logits of candidates (shoppers, candidates), very low where absent."""
        index = _index(items)
        found = (vectors[index] * user.unsqueeze(1)).sum(dim=-1) + prior[index]
        return torch.where(items >= 0, found, torch.full_like(found, -1e30))


def _index(values: Tensor) -> Tensor:
    """Return indices that are safe to look up; -1 (absent) becomes 0 and is masked by the caller."""
    return values.clamp(min=0).long()


def pack(examples: Examples) -> NDArray[np.float32]:
    """Return the examples as one row per shopper, -1 where absent; inverse of the split in `TowerLoss`."""
    histories = examples.histories
    rows = histories.rows
    from_end = positions_from_end(histories.indptr)
    columns = (
        histories.items.astype(np.float32),
        histories.kinds.astype(np.float32),
        log_bucket(from_end, POSITION_BUCKETS).astype(np.float32),
        age_buckets(histories, examples.moments).astype(np.float32),
    )
    padded = np.full((len(columns), len(examples), HISTORY_LIMIT), -1.0, dtype=np.float32)
    for block, column in zip(padded, columns, strict=True):
        block[rows, from_end] = column
    return np.concatenate(
        [*padded, examples.moments.codes, examples.targets, examples.negatives], axis=1
    ).astype(np.float32)
