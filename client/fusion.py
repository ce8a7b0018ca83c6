"""What a cohort adds to the fusion's sum: of each shopper one bounded row (`model.fusion_learning`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.fusion_examples import Questions, questions
from model.features import Histories, Moments
from model.fusion_learning import NUMBERS, SIDE, TAUGHT_SURFACES
from model.sampling import NEGATIVES, draw_negatives, uniforms
from model.schema import Weights, complement_of
from model.two_tower import encode_users
from privacy.mechanism import clip_factors

Array = NDArray[np.float64]

CHUNK = 512
"""Shoppers whose candidates are held in memory at once."""


@dataclass(frozen=True, kw_only=True)
class FusionModel:
    """The released model, cut to the items of one unit.

    Attributes:
        weights: of the user tower, with `item_bias` and `complement` where it was learned.
        vectors: (items, dim).
        probabilities: (items,) summing to 1, from which negatives are drawn.
        start: (taught surfaces, features) the constants that the step starts from, in units of the features.
        units: (features,).
    """

    weights: Weights
    vectors: NDArray[np.float32]
    probabilities: Array
    start: Array
    units: Array


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What makes every shopper's examples its own, see `model.sampling.uniforms`."""

    seed: int
    round_number: int
    basket_kinds: frozenset[str]
    clock: bool


def fusion_share(
    model: FusionModel, histories: Histories, keys: NDArray[np.uint64], draw: Draw, clipping_norm: float
) -> Array:
    """Return the sum over shoppers of their clipped rows, (taught surfaces * NUMBERS,).

    A shopper's row holds, for each surface with a question in the history, the gradient and the curvature of one
    example; the whole row is clipped to L2 norm C. A row whose norm is not finite adds nothing.
    """
    total = np.zeros(len(TAUGHT_SURFACES) * NUMBERS)
    for first in range(0, len(histories), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(histories)))
        told = fusion_rows(model, histories.select(rows), keys[rows], draw)
        norms = np.linalg.norm(told, axis=1)
        finite = np.isfinite(norms)
        total += clip_factors(norms[finite], clipping_norm) @ told[finite]
    return total


def fusion_rows(model: FusionModel, histories: Histories, keys: NDArray[np.uint64], draw: Draw) -> Array:
    """Return every shopper's row before clipping, (shoppers, taught surfaces * NUMBERS)."""
    draws = uniforms(draw.seed, draw.round_number, keys, len(TAUGHT_SURFACES) + NEGATIVES)
    told = np.zeros((len(histories), len(TAUGHT_SURFACES), NUMBERS))
    for place, surface in enumerate(TAUGHT_SURFACES):
        asked = questions(histories, draws[:, place], draw.basket_kinds, surface=surface, clock=draw.clock)
        if len(asked.taken):
            candidates = candidates_of(
                asked, draws[asked.shoppers, len(TAUGHT_SURFACES) :], model.probabilities
            )
            features = candidate_features(model, asked, candidates)
            told[asked.shoppers, place] = _numbers(model, features, candidates, model.start[place])
    return told.reshape(len(histories), -1)


def candidates_of(asked: Questions, draws: Array, probabilities: Array) -> NDArray[np.int64]:
    """Return the item that was taken and drawn ones, (questions, 1 + draws); -1 where it would not be listed.

    What a shopper took later stays among them: at that moment it was not taken.
    """
    taken = asked.taken[:, None]
    drawn = draw_negatives(draws, probabilities, asked.barred)
    return np.concatenate([taken, np.where(drawn == taken, -1, drawn)], axis=1)


def candidate_features(model: FusionModel, asked: Questions, candidates: NDArray[np.int64]) -> Array:
    """Return the features (questions, candidates, SIDE) of candidates (questions, candidates), in their units."""
    weights, vectors, complement = model.weights, model.vectors, complement_of(model.weights)
    nowhere = Moments(asked.moments.times, np.full_like(asked.moments.codes, -1))
    readings = (
        (encode_users(weights, vectors, asked.histories, asked.moments), vectors),
        (encode_users(weights, vectors, asked.sessions, nowhere), vectors),
        (_together(complement, asked.anchors), complement),
    )
    found = [np.einsum("qd,qcd->qc", mine, table[candidates]) for mine, table in readings]
    return np.stack([*found, weights["item_bias"][candidates]], axis=2).astype(np.float64) / model.units


def _together(complement: NDArray[np.float32], anchors: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Return the sum of the anchors' complement vectors over the root of their number, (questions, c)."""
    rows = [complement[items].sum(axis=0) / np.sqrt(max(len(items), 1)) for items in anchors]
    return np.array(rows, dtype=np.float32).reshape(len(anchors), complement.shape[1])


def _numbers(model: FusionModel, features: Array, candidates: NDArray[np.int64], start: Array) -> Array:
    """Return gradient and curvature of each question's sampled softmax loss, (questions, NUMBERS)."""
    drawn = np.concatenate([np.ones((len(candidates), 1), np.bool_), candidates[:, 1:] >= 0], axis=1)
    drawn &= drawn[:, 1:].any(axis=1, keepdims=True)
    logits = features @ start - np.log(np.maximum(model.probabilities, 1e-12))[candidates]
    logits = np.where(drawn, logits, -np.inf)
    chances = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-700.0))
    chances /= np.maximum(chances.sum(axis=1, keepdims=True), 1e-300)
    mean = np.einsum("qc,qcf->qf", chances, features)
    gradient = (features[:, 0] - mean) * drawn[:, :1]
    curvature = np.einsum("qc,qcf,qcg->qfg", chances, features, features) - mean[:, :, None] * mean[:, None]
    rows, columns = np.triu_indices(SIDE)
    factors = np.where(rows == columns, 1.0, np.sqrt(2.0))  # the triangle has the norm of the whole matrix
    return np.concatenate([gradient, curvature[:, rows, columns] * factors], axis=1)
