"""One experiment: data, population, federations, twins and baselines on one split, and the report of them all."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import scipy.sparse as sp
from safetensors.numpy import load_file

from evaluation.baselines import popularity
from evaluation.beyond import Likeness
from evaluation.central import central_twin
from evaluation.factors import ials
from evaluation.neighbours import item_neighbours
from evaluation.planning import federation_of
from evaluation.protocol import Result, Scorer, evaluate
from evaluation.releasing import signing_registry
from evaluation.settings import ExperimentSettings, Watch
from evaluation.split import Split, choose, split
from evaluation.towers import tower_scorer
from evaluation.trials import replies, trial
from model.catalogue import PublicItems, read_public_items
from model.encoders import Encoder, encoder_named
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at
from privacy.mechanism import SeededNoise, SystemNoise
from privacy.plan import Plan, Trust
from privacy.release_keys import RELEASE_KEY
from server.registry import ModelVersion
from simulation.data import Dataset, check, load
from simulation.data.rejections import write_rejections
from simulation.federated import (
    FederationSettings,
    Place,
    RunConfig,
    plan_before,
    run_config_of,
    train,
)
from simulation.linkage import released_linkage
from simulation.population import PROMOTIONS_FILE, Population, build_population, place_keys
from simulation.staging import install, new_stage, sole_spender

CURVE_METRIC = "ndcg@10"
REJECTED_FILE = "rejected-rows.csv"
PRIVATE, FEDERATED, CENTRAL = "two_tower_private", "two_tower_federated", "two_tower_central"


@dataclass(frozen=True, kw_only=True)
class Released:
    """The model that a run releases, and what it cost.

    Attributes:
        merchants_p95: noised 95th percentile of merchants per shopper, where merchants take part.
    """

    version: ModelVersion
    plan: Plan
    merchants_p95: int | None
    cpu_seconds: float


@dataclass(kw_only=True)
class Experiment:
    """The parts of one experiment, each made once and used by the report."""

    settings: ExperimentSettings
    watch: Watch
    dataset: Dataset
    split: Split
    population: Population
    catalogue: PublicItems
    federation: FederationSettings

    @classmethod
    def prepare(cls, settings: ExperimentSettings, watch: Watch) -> Experiment:
        """Read the data, cut it, and write the participants' encrypted stores."""
        watch.begin("reading and checking the data", 1)
        dataset = load(settings.data, mapping=settings.mapping)
        if dataset.rejected_rows:
            name_rejected_rows(settings)
        cut = split(dataset, settings.split or choose(dataset), seed=settings.seed)
        watch.begin("encrypting every participant's events", 1)
        place_keys(settings.out, settings.ledger_url)
        population = build_population(
            new_stage(settings.out), dataset.items, cut.train, settings.participants
        )
        if dataset.promotions is not None:
            dataset.promotions.write_parquet(population.folder / PROMOTIONS_FILE)
        return cls(
            settings=settings,
            watch=watch,
            dataset=dataset,
            split=cut,
            population=population,
            catalogue=read_public_items(population.folder / "catalogue.parquet"),
            federation=federation_of(settings, dataset, cut, population.participants),
        )

    @cached_property
    def encoder(self) -> Encoder:
        """What makes features of the catalogue, for every model alike."""
        return encoder_named(self.settings.encoder)

    @cached_property
    def features(self) -> sp.csr_matrix:
        """The public item features, made once for all models and rounds that are judged."""
        return self.encoder.encode(self.catalogue.columns)

    def release(self) -> Released:
        """Train and promote the model that leaves the run, charged to the shoppers' accounts."""
        keys = self.settings.out / "keys"
        with (
            sole_spender(keys),
            closing(ledger_at(self.settings.ledger_url, keys)) as ledger,
        ):
            return self._release(ledger)

    def _release(self, ledger: Ledger) -> Released:
        """Plan, take the run folder over, release; the plan comes first, so that a refusal changes nothing."""
        place = Place(
            name=self.dataset.name,
            registry=self.settings.out / "registry",
            ledger=self.settings.ledger_url,
            ledger_keys=str(self.settings.out / "keys"),
            signing_key=str(self.settings.out / "keys" / RELEASE_KEY),
            checkpoints=self.settings.out / "rounds",
        )
        spent = self.population.spent_mu2(ledger)
        staged = run_config_of(self.population, self.federation, place, spent)
        plan = plan_before(staged, self.population.participants)
        self.population.check_quotas(ledger, plan)
        self.population = install(self.population, self.settings.out)
        for old in place.checkpoints.glob("*.safetensors"):
            old.unlink()
        run_config = run_config_of(self.population, self.federation, place, spent)
        merchants_p95 = self._linkage(plan, ledger)
        registry, _ = signing_registry(self.settings.out, self.dataset.name)
        before = time.process_time()
        version = self._train(self.federation, place, run_config, f"training {self._words(plan)}")
        cpu_seconds = time.process_time() - before
        registry.promote(version.version)
        return Released(version=version, plan=plan, merchants_p95=merchants_p95, cpu_seconds=cpu_seconds)

    def unprotected(self) -> ModelVersion:
        """Train the same federation without noise, in a folder that is thrown away."""
        return self._aside(self.federation.without_privacy(), "training the same federation without noise")

    def scorer(self, version: ModelVersion) -> Scorer:
        """Return a model version as a scorer of the split."""
        return tower_scorer(version.weights, self.features, self.split)

    def results(self, scorers: dict[str, Scorer]) -> dict[str, Result]:
        """Judge all models on the same split by the same protocol."""
        likeness = Likeness.by_category(self.catalogue.columns.categories)
        found = {}
        self.watch.begin("judging every model on the held-out events", len(scorers))
        for name, scorer in scorers.items():
            found[name] = evaluate(
                name,
                scorer,
                self.split,
                protocol=self.settings.protocol,
                likeness=likeness,
                seed=self.settings.seed,
            )
            self.watch.step()
        return found

    def baselines(self) -> dict[str, Scorer]:
        """Fit the central twin and the classical recommenders on pooled train data."""
        seed = self.settings.seed
        fits = {"ials": ials, "item_neighbours": item_neighbours, "popularity": popularity}
        self.watch.begin("fitting the central twin and the baselines", 1 + len(fits))
        weights = central_twin(self.split, self.catalogue, self.settings.dim, seed, self.encoder)
        scorers = {CENTRAL: tower_scorer(weights, self.features, self.split)}
        self.watch.step()
        for name, fit in fits.items():
            scorers[name] = fit(self.split, seed)
            self.watch.step()
        return scorers

    def utility_curve(self, released: Released, value: float) -> list[dict[str, Any]]:
        """Return utility at other epsilons, from federations that are simulated and thrown away."""
        if self.settings.trust is Trust.NONE:
            return []
        points = {released.plan.total_epsilon(): value}
        for epsilon in self.settings.curve:
            if any(math.isclose(epsilon, other, rel_tol=1e-6) for other in points):
                continue
            words = f"simulating epsilon {epsilon:g} for the chart"
            version = self._aside(replace(self.federation.in_the_open(), epsilon=epsilon), words)
            points[epsilon] = evaluate("curve", self.scorer(version), self.split, ks=(10,)).mean(CURVE_METRIC)
        return [{"epsilon": e, "metric": CURVE_METRIC, "value": points[e]} for e in sorted(points)]

    def learning_curve(self, released: Released) -> list[dict[str, Any]]:
        """Return utility after each round of the released run, from its checkpoints."""
        rows = []
        statistics = self.federation.statistics_rounds
        judged = slice(statistics - 1, statistics + self.federation.rounds)  # the fusion is not of this score
        for path in sorted((self.settings.out / "rounds").glob("*.safetensors"))[judged]:
            number = int(path.stem.removeprefix("round-"))
            version = replace(released.version, weights={**released.version.weights, **load_file(path)})
            value = evaluate("round", self.scorer(version), self.split, ks=(10,)).mean(CURVE_METRIC)
            stage = "statistics" if number == statistics else "gradient"
            rows.append({"round": number, "stage": stage, "metric": CURVE_METRIC, "value": value})
        return rows

    def _linkage(self, plan: Plan, ledger: Ledger) -> int | None:
        """Release how many merchants shoppers buy from, where that matters to the guarantee."""
        if not self.federation.releases_linkage:
            return None
        seed = self.settings.noise_seed
        return released_linkage(
            self.population, plan, ledger, SystemNoise() if seed is None else SeededNoise(seed)
        )

    def _train(
        self, federation: FederationSettings, place: Place, run_config: RunConfig, words: str
    ) -> ModelVersion:
        self.watch.begin(words, replies(self.population, federation))
        return train(self.population, federation, place, run_config, self.watch.step)

    def _aside(self, federation: FederationSettings, words: str) -> ModelVersion:
        """Train a federation that releases nothing."""
        self.watch.begin(words, replies(self.population, federation))
        return trial(self.population, federation, self.watch.step)

    def _words(self, plan: Plan) -> str:
        if plan.trust is Trust.NONE:
            return "WITHOUT PRIVACY (trust none)"
        return f"under shopper-level privacy, epsilon {plan.total_epsilon():.3g}, trust {plan.trust}"


def name_rejected_rows(settings: ExperimentSettings) -> None:
    """Write file, line, column and reason of every rejected row into the run folder."""
    found = check(settings.data, settings.mapping, now=datetime.now(UTC))
    write_rejections(found.rejections, settings.out / REJECTED_FILE)


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Fill a mapping with wall seconds, processor seconds and peak memory of the block."""
    wall, cpu, cost = time.perf_counter(), time.process_time(), dict[str, float]()
    yield cost
    cost["seconds"] = time.perf_counter() - wall
    cost["cpu_seconds"] = time.process_time() - cpu
    cost["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finite(value: float) -> float | None:
    """Return a number that JSON can hold; infinity, the absence of a guarantee, becomes null."""
    return None if math.isinf(value) else value
