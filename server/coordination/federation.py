"""One run of a federation: counts, Grams, baskets, gradient rounds, fusion; each releases at most one sum."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.catalogue import PublicItems
from model.content_axes import content_axes
from model.encoders import encoder_named
from model.fusion_learning import NUMBERS, TAUGHT_SURFACES
from model.head import Head
from model.spectral import GramBlock, Start, leading_basis
from privacy.plan import Plan, Stage, Trust
from proto.federation import (
    AXES,
    BASIS,
    DEVICES,
    EVERYONE,
    FUSION_START,
    FUSION_UNITS,
    MERCHANT_PART,
    Task,
)
from server.coordination.blocks import gram_of, scatter_counts, scatter_gram, triangle
from server.coordination.budget import Account, Releaser
from server.coordination.collecting import Collector, Shapes, Totals
from server.coordination.config import FederationConfig, Participants
from server.coordination.exchange import Exchange, PublicArrays, public_hash
from server.coordination.influence import Influence
from server.coordination.learner import Learner
from server.coordination.open_round import OpenCollector

log = logging.getLogger("fedrank.coordination")


class Federation:
    """Coordinates the rounds of one plan over a Flower grid."""

    def __init__(
        self, grid: Grid, config: FederationConfig, catalogue: PublicItems, plan: Plan, account: Account
    ) -> None:
        """Prepare the learner; nothing is asked and nothing is spent yet."""
        self._config, self._catalogue = config, catalogue
        self._collector = collector_of(grid, config)
        self._plan, self._account = plan, account
        self._releaser = Releaser(config, plan)
        self._run_id, self._number = uuid.uuid4().hex, 0
        self.learner = Learner(
            catalogue,
            dim=config.dim,
            shoppers=config.shoppers,
            user_tower=config.user_tower,
            encoder=encoder_named(config.encoder),
            begin=Start(recency=config.recency, prior=config.prior, damping=config.damping),
        )

    def run(self) -> None:
        """Run all stages of the plan in order."""
        self._counts()
        heads = self._heads()
        bases = self._gram(heads) if self._plan.has(Stage.GRAM) else self._content_bases(heads)
        if self._plan.has(Stage.SUBSPACE):
            self._subspace(heads, bases)
        if self._plan.has(Stage.BASKETS):
            self._baskets()
        for _ in range(self._config.rounds):
            self._gradient()
        if self._plan.has(Stage.FUSION):
            self._fusion()

    @property
    def _merchants_alone(self) -> bool:
        """Whether no participant sees a shopper at two merchants."""
        return self._config.participants is Participants.MERCHANTS

    def _owners(self) -> dict[str, NDArray[np.int64]]:
        """Return the catalogue indices of each merchant's items."""
        names = sorted(set(self._catalogue.merchant_ids))
        return {name: self._catalogue.of_merchant(name) for name in names}

    def _counts(self) -> None:
        owners = self._owners()
        shapes: Shapes = {MERCHANT_PART + name: (len(items),) for name, items in owners.items()}
        shapes[DEVICES] = (len(self._catalogue),)
        task, totals = self._round(Stage.COUNTS, shapes, {})
        noisy = self._releaser.released(Stage.COUNTS, scatter_counts(totals, owners, len(self._catalogue)))
        groups = list(owners.values()) if self._merchants_alone else [np.arange(len(self._catalogue))]
        gram_std = self._releaser.noise_std(Stage.GRAM) if self._plan.has(Stage.GRAM) else None
        self.learner.learn_counts(noisy, self._releaser.noise_std(Stage.COUNTS), gram_std, groups)
        self._finish(task)

    def _heads(self) -> dict[str, Head]:
        """Return the head of each block: one per merchant where merchants alone take part, else one for all.

        Entries between two merchants are zero by construction among merchants that cannot link shoppers: they
        carry no noise because nothing is released there.
        """
        head = self.learner.head
        if not self._merchants_alone:
            return {DEVICES: head}
        return {MERCHANT_PART + name: head.at(own) for name, own in self._head_owners().items()}

    def _head_owners(self) -> dict[str, NDArray[np.int64]]:
        """Return the positions of each merchant's items in the head."""
        items = self.learner.head.items
        return {name: np.flatnonzero(np.isin(items, own)) for name, own in self._owners().items()}

    def _content_bases(self, heads: dict[str, Head]) -> dict[str, NDArray[np.float32]]:
        """Return the directions of public content in which each block's histories are read."""
        features = self.learner.features
        return {part: content_axes(features[head.items], head.popular) for part, head in heads.items()}

    def _gram(self, heads: dict[str, Head]) -> dict[str, NDArray[np.float32]]:
        """Release co-occurrence over the head; return the directions that it leads to."""
        head, owners = self.learner.head, self._head_owners()
        shapes: Shapes = {MERCHANT_PART + name: (triangle(len(own)),) for name, own in owners.items()}
        shapes[DEVICES] = (triangle(len(head)),)
        task, totals = self._round(Stage.GRAM, shapes, self._head_words())
        if not self._merchants_alone:
            totals = {DEVICES: scatter_gram(totals, owners, len(head))}
        blocks = {part: self._block(Stage.GRAM, totals[part], own, None) for part, own in heads.items()}
        self.learner.learn_gram(list(blocks.values()))
        self._finish(task)
        return {part: leading_basis(block) for part, block in blocks.items()}

    def _subspace(self, heads: dict[str, Head], bases: dict[str, NDArray[np.float32]]) -> None:
        """Release co-occurrence inside a basis: what the first Gram leads to, or public content (docs/adr/0013)."""
        sides = {part: basis.shape[1] for part, basis in bases.items()}
        named = sides if self._merchants_alone else dict.fromkeys(self._parts(), sides[DEVICES])
        public = {**self._head_words(), **{BASIS + part: basis for part, basis in bases.items()}}
        shapes: Shapes = {part: (triangle(side),) for part, side in named.items()}
        task, totals = self._round(Stage.SUBSPACE, shapes, public)
        if not self._merchants_alone:
            totals = {DEVICES: np.sum(list(totals.values()), axis=0)}
        self.learner.learn_gram(
            [self._block(Stage.SUBSPACE, totals[part], heads[part], bases[part]) for part in bases]
        )
        self._finish(task)

    def _baskets(self) -> None:
        """Release what is taken together, in axes that the item vectors and public content give."""
        axes = self.learner.basket_axes()
        shapes: Shapes = {EVERYONE: (triangle(axes.shape[1]),)}
        task, totals = self._round(Stage.BASKETS, shapes, {AXES: axes})
        moment = gram_of(self._releaser.released(Stage.BASKETS, totals[EVERYONE]))
        self.learner.learn_baskets(
            axes, moment, self._releaser.noise_std(Stage.BASKETS) / float(np.sqrt(2.0))
        )
        self._finish(task)

    def _parts(self) -> list[str]:
        """Return the names of all parts that an answer may hold: one per merchant, and one of all devices."""
        return [DEVICES, *(MERCHANT_PART + name for name in self._owners())]

    def _head_words(self) -> dict[str, NDArray[np.generic]]:
        """Return what participants need to read histories in the axes of the head."""
        return {"head": self.learner.head.items, "popularity": self.learner.head.popularity}

    def _block(
        self, stage: Stage, total: NDArray[np.float64], head: Head, basis: NDArray[np.float32] | None
    ) -> GramBlock:
        """Release one triangle and return it as a matrix, with the noise that lies on it."""
        return GramBlock(
            head=head,
            basis=basis,
            gram=gram_of(self._releaser.released(stage, total)),
            noise_std=self._releaser.noise_std(stage) / float(np.sqrt(2.0)),
            popular_strength=head.popular_strength(self._config.shoppers),
        )

    def _gradient(self) -> None:
        public = self.learner.public_model()
        shapes: Shapes = {f"{EVERYONE}/{name}": public[name].shape for name in self.learner.trained}
        task, totals = self._round(Stage.GRADIENT, shapes, public)
        noisy = {
            name: self._releaser.released(Stage.GRADIENT, totals[f"{EVERYONE}/{name}"])
            for name in self.learner.trained
        }
        self.learner.learn_gradient(noisy)
        self._finish(task)

    def _fusion(self) -> None:
        """Release what histories teach the surfaces about the parts of a score, and take one step on it."""
        units, start, public = self.learner.fusion_question()
        shapes: Shapes = {EVERYONE: (len(TAUGHT_SURFACES) * NUMBERS,)}
        task, totals = self._round(Stage.FUSION, shapes, {**public, FUSION_START: start, FUSION_UNITS: units})
        noisy = self._releaser.released(Stage.FUSION, totals[EVERYONE]).reshape(len(TAUGHT_SURFACES), NUMBERS)
        self.learner.learn_fusion(noisy, self._releaser.noise_std(Stage.FUSION), units)
        self._finish(task)

    def _round(self, stage: Stage, shapes: Shapes, public: PublicArrays) -> tuple[Task, Totals]:
        """Ask the cohort, close the sum at the minimum cohort, and reserve the release before noise is drawn."""
        self._number += 1
        task = self._task(stage, self._number, public_hash(public))
        collected = self._collector.collect(task, shapes, public)
        for reason in sorted(set(collected.refused)):
            log.warning("round %d (%s): %s", task.round, stage, reason)
        self._account.reserve(task)
        return task, collected.totals

    def _finish(self, task: Task) -> None:
        """Commit the release and keep what it taught."""
        self._account.commit(task)
        whole = task.stage != Stage.GRADIENT
        save_checkpoint(self._config.checkpoints, task.round, self.learner, whole=whole)
        log.info("round %d of %d done: %s", task.round, self._config.all_rounds, task.stage)

    def _task(self, stage: Stage, number: int, model_hash: str) -> Task:
        release, protected = self._plan.of(stage), self._plan.trust is not Trust.NONE
        return Task(
            release_id=f"{self._config.run_name}/{self._run_id}/{number}-{stage}",
            stage=str(stage),
            round=number,
            model_hash=model_hash,
            trust=str(self._plan.trust),
            clipping_norm=release.clipping_norm,
            noise_multiplier=release.noise_multiplier or 0.0,
            mu2=release.mu2_each * self._repeats(stage) if protected else 0.0,
            cap_mu2=self._plan.cap_mu2 if protected else 0.0,
            steps=self._repeats(stage),
            expected_shoppers=max(1, self._config.shoppers // self._config.merchants),
            clock=self._config.has_clock,
            loss=str(self._config.loss),
            seed=self._config.seed,
            noise_seed=self._config.noise_seed,
            basket_kinds=self._config.basket_kinds,
            minimum_cohort=self._config.minimum_cohort,
        )

    def _repeats(self, stage: Stage) -> int:
        """Return how many noisy gradients one round costs: the local steps."""
        return self._config.steps if stage is Stage.GRADIENT else 1


def collector_of(grid: Grid, config: FederationConfig) -> Collector:
    """Return the way in which this run makes its sums."""
    return OpenCollector(
        exchange=Exchange(grid, deadline=config.timeout),
        influence=Influence.of(config),
        minimum_cohort=config.minimum_cohort,
    )


def save_checkpoint(folder: Path, number: int, learner: Learner, *, whole: bool) -> None:
    """Keep the model after a round of statistics, and what changes after a gradient round; all of it is released."""
    folder.mkdir(parents=True, exist_ok=True)
    names = learner.weights if whole else learner.trained
    kept = {name: np.ascontiguousarray(learner.weights[name]) for name in names}
    save_file(kept, folder / f"round-{number:03d}.safetensors")
