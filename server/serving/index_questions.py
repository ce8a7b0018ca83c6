"""Questions like those that will be asked, made from public item vectors alone: what an index is judged by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.features import SURFACES
from model.fusion import FUSION_FEATURES

Floats = npt.NDArray[np.float32]

QUESTIONS = 256
_MOST_EVENTS = 40
_MOST_INTERESTS = 3


def likely_questions(
    vectors: Floats,
    dim: int,
    groups: npt.NDArray[np.int32],
    fusion: Floats,
    gain: Floats,
    *,
    count: int = QUESTIONS,
    seed: int = 2,
) -> Floats:
    """Question vectors (count, D) of made-up shoppers, spread over the surfaces.

    A shopper has a few interests, each a group of items, and 1 to 40 events with items of these: the pooled item
    vectors are the user embedding, the newest of them the session and the anchors.

    Args:
        vectors: (items, D) rows [v | w | p].
        dim: length of v.
        groups: (items,) a number per item, such as its category.
        fusion: (surfaces, features) of `model.fusion`.
        gain: (dim,) of the user tower.
        count: how many.
        seed: others give other shoppers.
    """
    draws = np.random.default_rng(seed)
    by_group = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[by_group], np.arange(int(groups.max()) + 2))
    questions = np.empty((count, vectors.shape[1]), dtype=np.float32)
    for row in range(count):
        interests = groups[draws.integers(len(vectors), size=draws.integers(1, _MOST_INTERESTS + 1))]
        liked = draws.choice(interests, size=draws.integers(1, _MOST_EVENTS + 1))
        history = vectors[by_group[draws.integers(starts[liked], starts[liked + 1])]]
        questions[row] = _question(history, dim, fusion[row % len(SURFACES)], gain)
    return questions


def _question(history: Floats, dim: int, weights: Floats, gain: Floats) -> Floats:
    """[affinity * u + session * s | complement * c | prior] for one history (events, D), newest last."""
    counts = dict(zip(FUSION_FEATURES, weights.tolist(), strict=True))
    recent = history[-3:]
    taste = gain * history[:, :dim].sum(axis=0) / np.sqrt(len(history))
    session = gain * recent[:, :dim].sum(axis=0) / np.sqrt(len(recent))
    together = recent[:, dim:-1].sum(axis=0) / np.sqrt(len(recent))
    return np.concatenate(
        [
            counts["affinity"] * taste + counts["session"] * session,
            counts["complement"] * together,
            [counts["prior"]],
        ]
    ).astype(np.float32)
