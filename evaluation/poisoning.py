"""What a promotion attack reaches among honest shoppers, with and without the watch over exposure, and its price."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from evaluation.attack import Promotion
from evaluation.metrics import top_items
from evaluation.protocol import evaluate, scored
from evaluation.split import Split
from evaluation.towers import tower_scorer
from evaluation.trials import population_of, trial
from model.catalogue import read_public_items
from model.encoders import encoder_named
from model.schema import Weights
from server.coordination.exposure import DEPTH, watch
from simulation.adversary import Malice, train_under_attack
from simulation.federated import FederationSettings, Place
from simulation.population import Population

MALICIOUS = 0.05
"""Share of shoppers who attack."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Price:
    """NDCG@10 without an attack: of a new version as it was learned, and as the watch lets it out.

    Attributes:
        damped: how many items the watch held back.
    """

    learned: float
    released: float
    damped: int


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What an attack reached, in shares of all places of honest shoppers' lists.

    Attributes:
        before: the target's exposure in the version in service; `average`: that of an average item.
        pushed: in the attacked version without the watch; `held`: with it.
        ndcg_pushed, ndcg_held: NDCG@10 of honest shoppers then.
        named: whether the watch names the target.
    """

    before: float
    average: float
    pushed: float
    held: float
    ndcg_pushed: float
    ndcg_held: float
    named: bool

    def growth(self, exposure: float) -> float:
        """How many times what the target had, or what an average item has where it had less."""
        return exposure / max(self.before, self.average)


@dataclass(frozen=True, kw_only=True)
class Battlefield:
    """A version in service, and a federation in which some shoppers attack the next one.

    Attributes:
        cut: of all shoppers; `honest`: their indices but the malicious ones', judged ones only.
        population: the honest shoppers' stores; `malicious`: how many others there are.
        before: weights of the version in service, trained when all were honest.
        clean: of a next one without any attack.
    """

    cut: Split
    honest: NDArray[np.int64]
    population: Population
    malicious: int
    federation: FederationSettings
    features: sp.csr_matrix
    before: Weights
    clean: Weights

    def price(self) -> Price:
        """Return what the watch costs where nobody attacks."""
        watched = watch(self.before, self.clean, self.features)
        return Price(
            learned=self.ndcg(self.clean),
            released=self.ndcg(watched.weights),
            damped=len(watched.damped),
        )

    def attack(self, promotion: Promotion, noise_seed: int) -> Reached:
        """Train under an attack, and look at honest shoppers' lists without and with the watch."""
        federation = replace(self.federation, noise_seed=noise_seed)
        malice = Malice(devices=self.malicious, push=promotion)
        with tempfile.TemporaryDirectory() as folder:
            place = _place(Path(folder))
            pushed = train_under_attack(self.population, federation, place, malice).weights
        watched = watch(self.before, pushed, self.features)
        target = promotion.target
        return Reached(
            before=float(self.exposure(self.before)[target]),
            average=1 / len(self.cut.items),
            pushed=float(self.exposure(pushed)[target]),
            held=float(self.exposure(watched.weights)[target]),
            ndcg_pushed=self.ndcg(pushed),
            ndcg_held=self.ndcg(watched.weights),
            named=any(one.item == target for one in watched.damped),
        )

    def exposure(self, weights: Weights) -> Floats:
        """Return each item's share of the places in the lists of honest shoppers, (items,)."""
        places = np.zeros(len(self.cut.items))
        for shoppers, scores in scored(tower_scorer(weights, self.features, self.cut), self.cut):
            listed = top_items(scores, DEPTH)[np.isin(shoppers, self.honest)]
            places += np.bincount(listed.ravel(), minlength=len(places))
        return np.asarray(places / places.sum())

    def ndcg(self, weights: Weights) -> float:
        """Return NDCG@10 of honest shoppers."""
        found = evaluate("judged", tower_scorer(weights, self.features, self.cut), self.cut, ks=(DEPTH,))
        return float(found.per_shopper[f"ndcg@{DEPTH}"][np.isin(found.shoppers, self.honest)].mean())

    def target_at(self, share: float) -> int:
        """Return the item that so large a share of the catalogue is shown more than, in the version in service."""
        order = np.argsort(-self.exposure(self.before), kind="stable")
        return int(order[min(int(share * len(order)), len(order) - 1)])


@contextmanager
def battlefield(
    cut: Split, items: pl.DataFrame, federation: FederationSettings, seed: int = 5
) -> Iterator[Battlefield]:
    """Train the version in service and an honest next one, and put the malicious shoppers aside."""
    shoppers = len(cut.shoppers)
    malicious = np.random.default_rng(seed).choice(shoppers, round(MALICIOUS * shoppers), replace=False)
    with population_of(cut, items) as everybody:
        trained = [trial(everybody, replace(federation, noise_seed=number)).weights for number in (1, 2)]
        catalogue = read_public_items(everybody.folder / "catalogue.parquet")
    honest = replace(cut, train=cut.train.filter(~pl.col("shopper").is_in(malicious.tolist())))
    with population_of(honest, items) as population:
        yield Battlefield(
            cut=cut,
            honest=np.setdiff1d(cut.evaluated, malicious),
            population=population,
            malicious=len(malicious),
            federation=federation,
            features=encoder_named(federation.encoder).encode(catalogue.columns),
            before=trained[0],
            clean=trained[1],
        )


def _place(folder: Path) -> Place:
    return Place(
        name="attack",
        registry=folder / "registry",
        ledger=str(folder / "ledger.db"),
        checkpoints=folder / "rounds",
    )
