"""The losses that a federation may learn with, by name."""

from __future__ import annotations

from enum import StrEnum


class Loss(StrEnum):
    """What a shopper's targets T and negatives N are asked for, with logits x; always a mean over the targets t.

    Values:
        SAMPLED_SOFTMAX: -log softmax of x_t among {t} and N, logits less log q (Bengio & Senecal 2008).
        BPR: mean over n in N of log(1 + exp(x_n - x_t)): pairwise logistic (RankNet, Burges et al. 2005; Rendle
            et al. 2009).
        FOCAL_BCE: f(x_t) + sum over N of f(-x_n), f(x) = (1 - p)^2 (-log p) with p = sigmoid(x): binary cross
            entropy that passes over what is told apart already (Lin et al. 2017, gamma 2).
    """

    SAMPLED_SOFTMAX = "sampled_softmax"
    BPR = "bpr"
    FOCAL_BCE = "focal_bce"

    @property
    def code(self) -> int:
        """The number by which compiled kernels know the loss."""
        return list(Loss).index(self)

    @property
    def corrects_sampling(self) -> bool:
        """Whether logits are freed of how often an item is drawn; the others compare raw scores, as published."""
        return self is Loss.SAMPLED_SOFTMAX
