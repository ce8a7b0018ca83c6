"""A promotion attack: what malicious shoppers push into every stage of a run so that an item is shown to all.

They know what every participant knows: the task and its public arrays. Each pushes as far as the clipping norm
allows, all in one direction. Counts: the target alone. Gram: one history of the target and the items that everybody
likes, so that whoever likes those is shown the target. Gradient: the mean gradient of users drawn from public
popularity for whom the target is what they want.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.contribution import gradient_share, triangle_of
from model.features import KINDS, Histories, moments_at
from model.gradient import ITEM_VECTORS
from model.head import Head
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples
from privacy.plan import Stage
from proto.federation import BASIS, DEVICES, EVERYONE, Task
from simulation.adversary import Arrays

Array = NDArray[Any]

USERS, EVENTS = 256, 10
"""Invented users of the gradient stage, and the length of their histories."""
OWN_SHARE = 0.2
"""Share of the invented history's squared length that is the target's: the most harmful of those tried."""
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """Pushes one item of a catalogue.

    Attributes:
        target: its index; items: of the catalogue.
        counted: share of the clipping norm that goes into the counts; less is harder to see in them.
    """

    target: int
    items: int
    counted: float = 1.0

    def __call__(self, task: Task, public: Arrays) -> dict[str, Array]:
        """Return what one malicious device adds, by part; nothing in a stage that does not decide on lists."""
        match Stage(task.stage):
            case Stage.COUNTS:
                return {DEVICES: self.counted * task.clipping_norm * self._marked(np.arange(self.items))}
            case Stage.GRAM:
                return {DEVICES: task.clipping_norm * _moment(self._history(public))}
            case Stage.SUBSPACE:
                seen = np.asarray(public[BASIS + DEVICES], np.float64).T @ self._history(public)
                return {DEVICES: task.clipping_norm * _moment(seen)}
            case Stage.GRADIENT:
                return self._gradient(task, public)
            case _:
                return {}

    def _marked(self, items: Array) -> Array:
        return np.asarray(items == self.target, dtype=np.float64)

    def _history(self, public: Arrays) -> Array:
        """Return a history in the axes of the head: the target and what everybody likes."""
        head = Head(np.asarray(public["head"], np.int64), np.asarray(public["popularity"], np.float64))
        own = self._marked(head.items)
        liked = np.where(own > 0, 0.0, np.sqrt(head.popularity))
        history = np.sqrt(1 - OWN_SHARE) * _unit(liked) + np.sqrt(OWN_SHARE) * own
        return np.asarray(history - head.popular * (head.popular @ history))

    def _gradient(self, task: Task, public: Arrays) -> dict[str, Array]:
        q = np.asarray(public["q"], np.float64) / float(public["q"].sum())
        trained = frozenset(public) - {ITEM_VECTORS, "q", "item_bias"}
        weights = {name: np.asarray(public[name], np.float32) for name in (*trained, "item_bias")}
        vectors = np.asarray(public[ITEM_VECTORS], np.float32)
        log_q = np.log(np.maximum(q, _TINY))
        total = gradient_share(weights, vectors, self._users(q), log_q, trained, task.clipping_norm)
        length = np.sqrt(sum(float(np.square(value).sum()) for value in total.values()))
        scale = task.clipping_norm / max(float(length), _TINY)
        return {f"{EVERYONE}/{name}": scale * value for name, value in total.items()}

    def _users(self, q: Array) -> Examples:
        """Return users who have what is popular and want the target."""
        random = np.random.default_rng(0)
        drawn = random.choice(len(q), USERS * EVENTS, p=q).astype(np.int32)
        kinds = np.full(len(drawn), KINDS.index("purchase"), dtype=np.int8)
        indptr = np.arange(0, USERS * EVENTS + 1, EVENTS, dtype=np.int64)
        histories = Histories(indptr, drawn, kinds, np.zeros(len(drawn), dtype=np.int64))
        targets = np.full((USERS, TARGET_LIMIT), -1, dtype=np.int64)
        targets[:, 0] = self.target
        negatives = random.choice(len(q), (USERS, NEGATIVES), p=q)
        negatives[negatives == self.target] = -1
        return Examples(histories, moments_at(np.full(USERS, -1, dtype=np.int64)), targets, negatives)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), _TINY))


def _moment(history: Array) -> Array:
    """Return the triangle of a history's second moment, of length 1."""
    return triangle_of(np.outer(_unit(history), _unit(history)))
