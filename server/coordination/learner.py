"""What the coordinator learns from each release; all of it is post-processing of noisy sums."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from model.catalogue import PublicItems
from model.complement import basket_axes, complement_vectors
from model.encoders import Encoder, Hashed
from model.fusion_learning import feature_units, learned_fusion, start_of
from model.gradient import ITEM_VECTORS
from model.head import Head
from model.schema import COMPLEMENT, Schema, UserTower, Weights
from model.spectral import GramBlock, Start, head_size, spectral_vectors, start
from model.two_tower import encode_items
from server.coordination.optimiser import Adam

TRAINED = ("gain", "prior_scale", "kind_weight", "position_weight", "age_weight", "rarity", "context")
"""Parameters of the gradient rounds: few, so that the noise on each stays small (docs/adr/0004)."""

LEAST_COUNT = 0.5
"""Counts below this, or below two standard deviations of their noise, tell nothing about an item."""


class Learner:
    """The model of one federation while it is being trained."""

    def __init__(
        self,
        catalogue: PublicItems,
        *,
        dim: int,
        shoppers: int,
        user_tower: UserTower = UserTower.POOLING,
        begin: Start | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        """Start from public facts: the catalogue and the number of shoppers."""
        self.encoder = encoder or Hashed()
        self.features: sp.csr_matrix = self.encoder.encode(catalogue.columns)
        self.schema = Schema(
            items=len(catalogue), content_features=self.encoder.columns, dim=dim, user_tower=user_tower
        )
        self.weights: Weights = self.schema.zeros()
        self.probabilities = np.full(len(catalogue), 1.0 / len(catalogue))
        self.head = Head(np.zeros(0, dtype=np.int64), np.zeros(0))
        self.shoppers = shoppers
        self._begin = begin or Start()
        self._vectors = np.zeros((len(catalogue), dim), dtype=np.float32)
        self._adam = Adam()

    @property
    def trained(self) -> tuple[str, ...]:
        """Parameters of the gradient rounds of this user tower."""
        return (*TRAINED, "attention") if self.schema.user_tower is UserTower.ATTENTION else TRAINED

    def learn_counts(
        self,
        counts: NDArray[np.float64],
        noise_std: float,
        gram_std: float | None,
        groups: list[NDArray[np.int64]],
    ) -> None:
        """Take popularity, the sampling probabilities and the head catalogue from noisy counts (items,).

        Args:
            counts: noisy, over the whole catalogue.
            noise_std: of the noise in each count.
            gram_std: of the noise in each entry of the Gram that will cover the head; None for one in content
                axes, which covers every item.
            groups: catalogue indices of the items that may be liked together; each has a head of its own.
        """
        floored = np.maximum(counts, max(LEAST_COUNT, 2.0 * noise_std))
        self.probabilities = floored / floored.sum()
        heads = [
            items[np.argsort(-counts[items], kind="stable")[: self._head_size(gram_std, len(items))]]
            for items in groups
        ]
        items = np.sort(np.concatenate(heads)).astype(np.int64)
        self.head = Head(items, floored[items])

    def _head_size(self, gram_std: float | None, items: int) -> int:
        return items if gram_std is None else head_size(gram_std, self.shoppers, items)

    def learn_gram(self, blocks: list[GramBlock]) -> None:
        """Take the spectral start from noisy Gram matrices over the head items or inside a subspace of them."""
        log_q = np.log(self.probabilities)
        vectors = spectral_vectors(blocks, self.schema.dim, self.schema.items)
        self.weights = start(
            self.schema, self.features, self.head.items, vectors, log_q - log_q.mean(), self._begin
        )
        self._vectors = encode_items(self.weights, self.features)

    def basket_axes(self) -> NDArray[np.float32]:
        """Return the public axes (items, k) in which baskets are read; known after the Gram."""
        return basket_axes(self._vectors, self.features, self.probabilities)

    def learn_baskets(self, axes: NDArray[np.float32], moment: NDArray[np.float64], noise_std: float) -> None:
        """Take the complement vectors from the noisy moment (k, k) of the baskets; none where all of it is noise."""
        found = complement_vectors(axes, moment, noise_std)
        if found.shape[1]:
            self.weights = {**self.weights, COMPLEMENT: found}

    def learn_gradient(self, total: Mapping[str, NDArray[np.float64]]) -> None:
        """Step the user tower down the noisy gradient sum, divided by the public number of shoppers."""
        mean = {
            name: value.reshape(self.weights[name].shape) / self.shoppers for name, value in total.items()
        }
        self.weights = {**self.weights, **self._adam.apply(self.weights, mean)}

    def fusion_question(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, NDArray[np.generic]]]:
        """Return the features' units, the constants that the step starts from, and the model to learn with."""
        units = feature_units(self.weights, self._vectors, self.probabilities)
        public = self.public_model()
        if COMPLEMENT in self.weights:
            public[COMPLEMENT] = self.weights[COMPLEMENT]
        return units, start_of(self.weights, units), public

    def learn_fusion(
        self, statistics: NDArray[np.float64], noise_std: float, units: NDArray[np.float64]
    ) -> None:
        """Take what each part of a score counts on each surface from noisy sums (taught surfaces, numbers)."""
        self.weights = learned_fusion(self.weights, statistics, noise_std, units)

    def public_model(self) -> dict[str, NDArray[np.generic]]:
        """Return what participants need for a gradient round; all of it has been released under noise."""
        small: dict[str, NDArray[np.generic]] = {name: self.weights[name] for name in self.trained}
        bias = self.weights["item_bias"]
        return {**small, ITEM_VECTORS: self._vectors, "item_bias": bias, "q": self.probabilities}
