"""`fedrank simulate` from settings to report: the one function that the command and the tests call."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from client.consent import Purpose
from client.shoppers import EVENT_LIMIT
from evaluation.errors import SettingsError
from evaluation.experiment import FEDERATED, PRIVATE, REJECTED_FILE, Experiment, Released, finite, measured
from evaluation.per_merchant import merchant_rows
from evaluation.protocol import Protocol, Result, Scorer, paired_difference
from evaluation.report import write
from evaluation.report_contract import UNPROTECTED
from evaluation.settings import COHORT_PART, ExperimentSettings, Watch, config_hash
from evaluation.split import Split
from privacy.anonymity import K, at_least
from privacy.plan import Stage, Trust
from server.coordination.config import Participants
from server.registry import Registry
from simulation.federated import SecureAggregation
from simulation.population import CONSENT_ORIGIN
from simulation.staging import drop_stage

KEY_METRIC = "ndcg@10"
NAMED_ITEMS = 5
"""Damped items that the report names; the card names more."""
WEAK_EPSILON = 20.0


def simulate(settings: ExperimentSettings, watch: Watch) -> dict[str, Any]:
    """Run the experiment, write the run folder, and return the report.

    Raises:
        DataError, SplitError, BudgetError, CohortTooSmall and others of their families, before anything is
        charged wherever the cause can be known before.
    """
    _make_folder(settings.out)
    try:
        with measured() as cost:
            experiment = Experiment.prepare(settings, watch)
            released = experiment.release()
            results, extras = _judged(experiment, released)
    finally:
        drop_stage(settings.out)
    report = {
        "data": _data(experiment),
        "privacy": _privacy(experiment, released),
        "models": {name: result.summary(seed=settings.seed) for name, result in results.items()},
        "cost": {**cost, "shoppers_per_cpu_second": _speed(experiment, released)},
        "version": version("fedrank"),
        "model_hash": released.version.content_hash,
        **extras,
    }
    report["config"] = {
        **settings.described(),
        "data": experiment.dataset.name,
        "split": str(experiment.split.kind),
        "minimum_cohort": experiment.federation.minimum_cohort,
    }
    report["config_hash"] = config_hash(report["config"])
    report["warnings"] = _warnings(experiment) + _damped(released)
    report["run_id"] = uuid.uuid4().hex
    write(settings.out, report)
    return report


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the run folder {out} cannot be made ({error.strerror}); choose another --out"
        ) from None


def _judged(experiment: Experiment, released: Released) -> tuple[dict[str, Result], dict[str, Any]]:
    """Judge the released model beside its twins and the baselines, and draw the curves."""
    protected = released.plan.trust is not Trust.NONE
    scorers: dict[str, Scorer] = {}
    if protected:
        scorers[PRIVATE] = experiment.scorer(released.version)
        scorers[FEDERATED] = experiment.scorer(experiment.unprotected())
    else:
        scorers[FEDERATED] = experiment.scorer(released.version)
    scorers.update(experiment.baselines())
    results = experiment.results(scorers)
    ours = PRIVATE if protected else FEDERATED
    shown = {name: scorers[name] for name in (ours, "popularity")}
    curves = {"utility_epsilon": [], "learning": experiment.learning_curve(released)}
    if protected and experiment.settings.protocol is Protocol.FULL:
        curves["utility_epsilon"] = experiment.utility_curve(released, results[ours].mean(KEY_METRIC))
    extras = {
        "curves": curves,
        "per_merchant": merchant_rows(experiment.split, experiment.catalogue, shown),
        "plan": _plan(released),
        "comparisons": _comparisons(results, ours),
    }
    return results, extras


def _comparisons(results: Mapping[str, Result], ours: str) -> list[dict[str, Any]]:
    """Return the paired difference of the released model to every other, with its interval."""
    metric = KEY_METRIC if KEY_METRIC in results[ours].per_shopper else next(iter(results[ours].per_shopper))
    rows = []
    for name in (name for name in results if name != ours):
        interval = paired_difference(results[ours], results[name], metric)
        rows.append({"model": ours, "against": name, "metric": metric, **interval.as_dict()})
    return rows


def _data(experiment: Experiment) -> dict[str, Any]:
    dataset, cut = experiment.dataset, experiment.split
    return {
        "name": dataset.name,
        "label": dataset.label,
        "shoppers": len(cut.shoppers),
        "items": len(cut.items),
        "events": dataset.events.height,
        "merchants": len(set(experiment.catalogue.merchant_ids)),
        "merchants_from": dataset.merchants_from,
        "train_events": cut.train.height,
        "held_out_events": cut.test.height,
        "judged_shoppers": int(cut.evaluated.size),
        "split": str(cut.kind),
        "clock": str(dataset.clock),
        "rejected_rows": dataset.rejected_rows,
        "event_limit": EVENT_LIMIT,
        "capped_shoppers_at_least": at_least(_capped(cut)),
        "source": dataset.source,
        "consent": f"{' and '.join(Purpose)}, recorded for every shopper by {CONSENT_ORIGIN}",
    }


def _capped(cut: Split) -> int:
    """Return how many shoppers did more than a participant reads of one."""
    return int((cut.train.group_by("user_id").len()["len"] > EVENT_LIMIT).sum())


def _privacy(experiment: Experiment, released: Released) -> dict[str, Any]:
    """Return the privacy statement; nothing in it depends on data except through a release."""
    card = released.version.card["privacy"]
    keys = ("epsilon", "delta", "unit", "trust", "mechanism", "rounds", "participants", "noise")
    return {
        **{key: card[key] for key in keys},
        **_shares(experiment, card),
        "unit_detail": _unit(experiment),
        "sums": SUMS[experiment.settings.secure_aggregation],
        **_at_merchants(experiment, released),
    }


SUMS: Final[Mapping[SecureAggregation, str]] = {
    SecureAggregation.IDEAL: "ideal: the simulation adds contributions up in the open, which gives the same sums; "
    "--secure-aggregation full masks them",
    SecureAggregation.FULL: "full: contributions left under the masks of secure aggregation, one party per node",
}


def _shares(experiment: Experiment, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the statement says of noise in shares, and where the minimum cohort comes from."""
    if card["trust"] != Trust.DISTRIBUTED:
        return {}
    given = experiment.settings.minimum_cohort is not None
    part = f"{COHORT_PART:.0%} of the {experiment.population.participants:,} participants, as none was given"
    return {
        "minimum_cohort": card["minimum_cohort"],
        "minimum_cohort_is": "as given" if given else part,
        "most_participants": card["most_participants"],
        "if_silent": card["if_silent"],
    }


def _unit(experiment: Experiment) -> str:
    return {
        Participants.SHOPPERS: "all events of one shopper, on the shopper's device",
        Participants.MERCHANTS: "(merchant, shopper): all events of one shopper at one merchant",
        Participants.BOTH: "all events of one shopper on a device, or (merchant, shopper) at merchants",
    }[experiment.settings.participants]


def _at_merchants(experiment: Experiment, released: Released) -> dict[str, Any]:
    """Return epsilon of a person active at k merchants: k from a noised release, and from public facts."""
    if released.merchants_p95 is None:
        return {}
    most = len(experiment.population.merchants)
    of_a_person = partial(
        released.plan.epsilon_at_merchants,
        subspace_shared=experiment.settings.participants is not Participants.MERCHANTS,
    )
    return {
        "merchants_p95": released.merchants_p95,
        "epsilon_at_merchants_p95": finite(of_a_person(released.merchants_p95)),
        "merchants_max": most,
        "epsilon_at_merchants_max": finite(of_a_person(most)),
    }


def _plan(released: Released) -> list[dict[str, Any]]:
    return [
        {
            "stage": str(release.stage),
            "releases": release.count,
            "clipping_norm": release.clipping_norm,
            "noise_multiplier": release.noise_multiplier,
            "mu2": finite(release.mu2),
        }
        for release in released.plan.releases
    ]


def _speed(experiment: Experiment, released: Released) -> float:
    """Return shoppers whose contribution was computed, over all rounds, per processor second of the federation."""
    rounds = sum(release.count for release in released.plan.releases if release.stage is not Stage.LINKAGE)
    return len(experiment.split.shoppers) * rounds / max(released.cpu_seconds, 1e-9)


def _warnings(experiment: Experiment) -> list[str]:
    """Return what a reader has to know before believing a number."""
    settings, dataset = experiment.settings, experiment.dataset
    warnings = [UNPROTECTED] if settings.trust is Trust.NONE else []
    warnings += _weak_guarantees(experiment)
    if settings.noise_seed is not None:
        warnings.append(
            "The noise was drawn from a seed: for tests and simulation only, whoever knows it can undo it."
        )
    if "simulated" in dataset.label:
        warnings.append(
            "The data set is published as simulated; nothing here says how well the models do on real people."
        )
    if str(settings.protocol) == "sampled":
        warnings.append(
            "Sampled protocol: 99 drawn items per held-out one; not comparable with full ranking."
        )
    if dataset.rejected_rows:
        warnings.append(f"{dataset.rejected_rows} rows were rejected; see {REJECTED_FILE} in the run folder.")
    if capped := at_least(_capped(experiment.split)):
        warnings.append(
            f"At least {capped} shoppers have more than {EVENT_LIMIT:,} events; a participant learns from the newest "
            f"{EVENT_LIMIT:,} of each (a raw figure of the simulation, outside the privacy budget)."
        )
    if experiment.split.evaluated.size < K:
        warnings.append(
            f"Fewer than {K} shoppers were judged: figures by merchant are left out, and the others can tell about "
            "single shoppers. Do not publish this report."
        )
    return warnings


def _damped(released: Released) -> list[str]:
    """Return a warning that names items which the watch over exposure held back."""
    words = released.version.card["exposure"]
    if not words["damped_items"]:
        return []
    named = ", ".join(str(row["item"]) for row in words["damped"][:NAMED_ITEMS])
    return [
        f"{words['damped_items']} items would have been shown more than twice as much as by version "
        f"{words['compared_with']}, which was in service, and were damped: {named} and so on; see docs/poisoning.md."
    ]


def _weak_guarantees(experiment: Experiment) -> list[str]:
    """Return warnings about budgets that promise little, and about unprotected models of the same run folder."""
    settings, delta = experiment.settings, experiment.federation.delta
    found = []
    if settings.trust is not Trust.NONE and settings.epsilon > WEAK_EPSILON:
        found.append(
            f"epsilon {settings.epsilon:g} is above {WEAK_EPSILON:g}: such a guarantee says very little."
        )
    if settings.trust is not Trust.NONE and delta > 1 / len(experiment.split.shoppers):
        found.append(f"delta {delta:.3g} is above 1 / shoppers: whole histories may leak within it.")
    registry = Registry(settings.out / "registry")
    cards = [registry.get(version).card for version in registry.versions()]
    if settings.trust is not Trust.NONE and any(card["privacy"]["epsilon"] is None for card in cards):
        found.append(
            "This run folder also holds a model that was released WITHOUT privacy; epsilon does not cover it."
        )
    return found
