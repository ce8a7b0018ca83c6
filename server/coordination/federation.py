"""One run of a federation: counts, Grams, baskets, gradient rounds, fusion; each releases at most one sum."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.catalogue import PublicItems
from model.content_axes import content_axes
from model.encoders import encoder_named
from model.fusion_learning import NUMBERS, TAUGHT_SURFACES
from model.head import Head, triangle
from model.spectral import GramBlock, Start, leading_basis
from privacy.accountant import BudgetError
from privacy.failpoints import passed
from privacy.plan import Plan, Stage
from proto.federation import AXES, BASIS, DEVICES, EVERYONE, FUSION_START, FUSION_UNITS, MERCHANT_PART
from server.coordination.blocks import gram_of, scatter_counts
from server.coordination.budget import Account
from server.coordination.collecting import Shapes
from server.coordination.collectors import collector_of
from server.coordination.config import FederationConfig, Participants
from server.coordination.exchange import Exchange
from server.coordination.federation_rounds import Desk, Rounds
from server.coordination.journal_run import RunJournal, Unjournaled
from server.coordination.learner import Learner
from server.coordination.status import StatusFile

log = logging.getLogger("fedrank.coordination")


class Federation:
    """Coordinates the rounds of one plan over a Flower grid."""

    def __init__(
        self,
        grid: Grid,
        config: FederationConfig,
        catalogue: PublicItems,
        plan: Plan,
        account: Account,
        journal: RunJournal | None = None,
        status: StatusFile | None = None,
    ) -> None:
        """Prepare the learner; nothing is asked and nothing is spent yet.

        Args:
            plan: that the run was opened with.
            journal: what the run has done before; None where a run that dies begins anew.
            status: where the run says how far it is.
        """
        self._config, self._catalogue = config, catalogue
        journal = journal or Unjournaled(spent_before=account.spent_mu2())
        desk = Desk(
            config=config,
            collector=collector_of(grid, config),
            present=Exchange.of(grid, config).participants,
            account=account,
            journal=journal,
            status=status or StatusFile(None, run=journal.run_id, rounds=config.all_rounds),
        )
        self.rounds = Rounds(desk, plan)
        self.learner = Learner(
            catalogue,
            dim=config.dim,
            shoppers=config.shoppers,
            user_tower=config.user_tower,
            encoder=encoder_named(config.encoder),
            begin=Start(recency=config.recency, prior=config.prior, damping=config.damping),
        )

    def run(self) -> None:
        """Run all stages of the plan in order; where the budget ends early, a model that can rank is kept."""
        self._counts()
        heads = self._heads()
        bases = self._gram(heads) if self._has(Stage.GRAM) else self._content_bases(heads)
        if self._has(Stage.SUBSPACE):
            self._subspace(heads, bases)
        try:
            self._refine()
        except BudgetError as spent:
            log.warning("the run ends with what round %d has taught: %s", self.rounds.number - 1, spent)

    def _refine(self) -> None:
        """Run the stages that make a model better which can rank already."""
        if self._has(Stage.BASKETS):
            self._baskets()
        for _ in range(self._config.rounds):
            self._gradient()
        if self._has(Stage.FUSION):
            self._fusion()

    def _has(self, stage: Stage) -> bool:
        """Return whether this run releases a stage."""
        return self._config.releases[stage] > 0

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
        lengths = {name: len(items) for name, items in owners.items()}
        released = self.rounds.release(Stage.COUNTS, self._shapes(lengths, len(self._catalogue)), {})
        counts = scatter_counts(released, owners, len(self._catalogue))
        groups = list(owners.values()) if self._merchants_alone else [np.arange(len(self._catalogue))]
        gram_std = self.rounds.noise_std(Stage.GRAM) if self._has(Stage.GRAM) else None
        counts_std = self.rounds.noise_std(Stage.COUNTS)
        self.learner.learn_counts(counts, counts_std, gram_std, groups)
        self._learned(Stage.COUNTS)

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
        lengths = {name: triangle(len(own)) for name, own in self._head_owners().items()}
        shapes = self._shapes(lengths, triangle(len(self.learner.head)))
        released = self.rounds.release(Stage.GRAM, shapes, self._head_words())
        blocks = {part: self._block(Stage.GRAM, released[part], own, None) for part, own in heads.items()}
        self.learner.learn_gram(list(blocks.values()))
        self._learned(Stage.GRAM)
        return {part: leading_basis(block) for part, block in blocks.items()}

    def _subspace(self, heads: dict[str, Head], bases: dict[str, NDArray[np.float32]]) -> None:
        """Release co-occurrence inside a basis: what the first Gram leads to, or public content (docs/adr/0013)."""
        public = {**self._head_words(), **{BASIS + part: basis for part, basis in bases.items()}}
        shapes: Shapes = {part: (triangle(basis.shape[1]),) for part, basis in bases.items()}
        released = self.rounds.release(Stage.SUBSPACE, shapes, public)
        self.learner.learn_gram(
            [self._block(Stage.SUBSPACE, released[part], heads[part], bases[part]) for part in bases]
        )
        self._learned(Stage.SUBSPACE)

    def _baskets(self) -> None:
        """Release what is taken together, in axes that the item vectors and public content give."""
        axes = self.learner.basket_axes()
        shapes: Shapes = {EVERYONE: (triangle(axes.shape[1]),)}
        released = self.rounds.release(Stage.BASKETS, shapes, {AXES: axes})
        noise_std = self.rounds.noise_std(Stage.BASKETS) / float(np.sqrt(2.0))
        self.learner.learn_baskets(axes, gram_of(released[EVERYONE]), noise_std)
        self._learned(Stage.BASKETS)

    def _shapes(self, of_merchants: Mapping[str, int], of_all: int) -> Shapes:
        """Return a part for each merchant's own entries where merchants are alone, else one of all entries."""
        if self._merchants_alone:
            return {MERCHANT_PART + name: (length,) for name, length in of_merchants.items()}
        return {DEVICES: (of_all,)}

    def _head_words(self) -> dict[str, NDArray[np.generic]]:
        """Return what participants need to read histories in the axes of the head."""
        return {"head": self.learner.head.items, "popularity": self.learner.head.popularity}

    def _block(
        self, stage: Stage, upper: NDArray[np.float64], head: Head, basis: NDArray[np.float32] | None
    ) -> GramBlock:
        """Return a released triangle as a matrix, with the noise that lies on it."""
        return GramBlock(
            head=head,
            basis=basis,
            gram=gram_of(upper),
            noise_std=self.rounds.noise_std(stage) / float(np.sqrt(2.0)),
            popular_strength=head.popular_strength(self._config.shoppers),
        )

    def _gradient(self) -> None:
        public = self.learner.public_model()
        shapes: Shapes = {f"{EVERYONE}/{name}": public[name].shape for name in self.learner.trained}
        released = self.rounds.release(Stage.GRADIENT, shapes, public)
        self.learner.learn_gradient({name: released[f"{EVERYONE}/{name}"] for name in self.learner.trained})
        self._learned(Stage.GRADIENT)

    def _fusion(self) -> None:
        """Release what histories teach the surfaces about the parts of a score, and take one step on it."""
        units, start, public = self.learner.fusion_question()
        shapes: Shapes = {EVERYONE: (len(TAUGHT_SURFACES) * NUMBERS,)}
        question = {**public, FUSION_START: start, FUSION_UNITS: units}
        released = self.rounds.release(Stage.FUSION, shapes, question)
        statistics = released[EVERYONE].reshape(len(TAUGHT_SURFACES), NUMBERS)
        self.learner.learn_fusion(statistics, self.rounds.noise_std(Stage.FUSION), units)
        self._learned(Stage.FUSION)

    def _learned(self, stage: Stage) -> None:
        """Keep what the newest round taught."""
        number, whole = self.rounds.number, stage is not Stage.GRADIENT
        save_checkpoint(self._config.checkpoints, number, self.learner, whole=whole)
        passed("round: learned")
        log.info("round %d of %d done: %s", number, self._config.all_rounds, stage)


def save_checkpoint(folder: Path, number: int, learner: Learner, *, whole: bool) -> None:
    """Keep the model after a round of statistics, and what changes after a gradient round; all of it is released."""
    folder.mkdir(parents=True, exist_ok=True)
    names = learner.weights if whole else learner.trained
    kept = {name: np.ascontiguousarray(learner.weights[name]) for name in names}
    save_file(kept, folder / f"round-{number:03d}.safetensors")
