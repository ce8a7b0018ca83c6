"""`fedrank simulate --plan`: how a run would spend its budget, told before anything is trained or charged."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from evaluation.planning_place import ledger_of_plan, place_of_plan
from evaluation.settings import ExperimentSettings, Surfaces, Watch
from evaluation.split import Split, choose, split
from model.catalogue import PublicItems, read_public_items
from model.spectral import head_size
from privacy.accountant import default_delta, epsilon_of
from privacy.plan import Plan, Release, Stage, Trust
from server.coordination.budget import Releaser
from server.coordination.config import FederationConfig, Participants
from simulation.data import Clock, Dataset, load
from simulation.federated import FederationSettings, plan_before, run_config_of
from simulation.population import Population, build_population


def federation_of(
    settings: ExperimentSettings, dataset: Dataset, cut: Split, participants: int
) -> FederationSettings:
    """Return the federation that an experiment trains with so many participants.

    Delta is 1 / N^1.1 unless the settings give one.
    """
    return FederationSettings(
        participants=settings.participants,
        trust=settings.trust,
        epsilon=settings.epsilon,
        delta=default_delta(len(cut.shoppers)) if settings.delta is None else settings.delta,
        rounds=settings.rounds,
        clock=str(dataset.clock),
        seed=settings.seed,
        noise_seed=settings.noise_seed,
        minimum_cohort=settings.cohort_of(participants),
        devices_per_message=settings.devices_per_message,
        secure_aggregation=settings.secure_aggregation,
        dim=settings.dim,
        loss=settings.loss,
        user_tower=settings.user_tower,
        encoder=settings.encoder,
        basis=settings.basis,
        recency=settings.recency,
        prior=settings.prior,
        damping=settings.damping,
        **learned_for(settings.surfaces, dataset),
    )


def learned_for(surfaces: Surfaces, dataset: Dataset) -> dict[str, Any]:
    """Return which stages of `FederationSettings` the surfaces need and a data set declares to support.

    The plan and the card say which, without noise: no row of the events is looked at.
    """
    timed = dataset.clock in (Clock.SECONDS, Clock.DAYS) and surfaces is not Surfaces.HOME
    kinds = dataset.basket_kinds if timed else ()
    return {"basket_kinds": ",".join(kinds), "fusion": timed and surfaces is Surfaces.ALL}


def planned(settings: ExperimentSettings, watch: Watch) -> dict[str, Any]:
    """Return the plan of a run as one JSON-able object; a run that would be refused raises what refuses it.

    Nothing is trained, charged or written to the run folder: what planning needs lies in a folder of its own.
    """
    watch.begin("reading and checking the data", 1)
    dataset = load(settings.data, mapping=settings.mapping)
    cut = split(dataset, settings.split or choose(dataset), seed=settings.seed)
    watch.begin("planning", 1)
    with tempfile.TemporaryDirectory() as folder:
        place = place_of_plan(settings, Path(folder))
        population = _who_takes_part(Path(folder), dataset, cut, settings.participants)
        federation = federation_of(settings, dataset, cut, population.participants)
        with ledger_of_plan(place) as ledger:
            run_config = run_config_of(population, federation, place, population.spent_mu2(ledger))
            plan = plan_before(run_config, population.participants)
            population.check_quotas(ledger, plan)
        catalogue = read_public_items(population.folder / "catalogue.parquet")
    shoppers = int(run_config["shoppers"])
    config = FederationConfig.from_run_config(run_config)
    heads = [_head(release, catalogue, config, plan) for release in plan.releases]
    return {
        "data": dataset.name,
        "participants": str(settings.participants),
        "taking_part": population.participants,
        "minimum_cohort": federation.minimum_cohort,
        "shoppers": shoppers,
        "items": len(catalogue),
        **_budget(plan),
        "stages": [_stage(plan, *pair) for pair in zip(plan.releases, heads, strict=True)],
    }


def _who_takes_part(folder: Path, dataset: Dataset, cut: Split, kind: Participants) -> Population:
    """Return the run's population with one event for each shopper of each merchant: a plan sees no more."""
    once = cut.train.unique(["user_id", "merchant_id"], keep="first", maintain_order=True)
    return build_population(folder, dataset.items, once, kind)


def _budget(plan: Plan) -> dict[str, Any]:
    protected = plan.trust is not Trust.NONE
    return {
        "trust": str(plan.trust),
        "epsilon": plan.epsilon if protected else None,
        "delta": plan.delta,
        "budget_mu2": plan.cap_mu2 if protected else None,
        "spent_mu2": plan.spent_mu2,
        "spent_epsilon": epsilon_of(math.sqrt(plan.spent_mu2), plan.delta),
        "mu2": plan.mu2 if protected else None,
        "total_epsilon": plan.total_epsilon() if protected else None,
    }


def _stage(plan: Plan, release: Release, head: int | None) -> dict[str, Any]:
    protected = release.noise_multiplier is not None
    return {
        "stage": str(release.stage),
        "releases": release.count,
        "clipping_norm": release.clipping_norm,
        "noise_multiplier": release.noise_multiplier,
        "mu2": release.mu2 if protected else None,
        "share": release.mu2 / plan.mu2 if protected else None,
        "epsilon_alone": epsilon_of(math.sqrt(release.mu2), plan.delta) if protected else None,
        "head_items": head,
    }


def _head(release: Release, catalogue: PublicItems, config: FederationConfig, plan: Plan) -> int | None:
    """Return how many items the Gram will cover, which public facts decide; None for other stages."""
    if release.stage is not Stage.GRAM:
        return None
    std = Releaser(config, plan).noise_std(release.stage)
    if config.participants is not Participants.MERCHANTS:
        return head_size(std, config.shoppers, len(catalogue))
    owners = sorted(set(catalogue.merchant_ids))
    return sum(head_size(std, config.shoppers, len(catalogue.of_merchant(name))) for name in owners)
