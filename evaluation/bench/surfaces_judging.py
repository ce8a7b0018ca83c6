"""Training and asking for one plan of the surfaces bench: private models over noise seeds, and one without noise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.bench.judging import mean_result
from evaluation.bench.surfaces_studies import Learning, Plan, Study
from evaluation.cold_items import pooled
from evaluation.planning import learned_for
from evaluation.protocol import Result
from evaluation.split import Split
from evaluation.surfaces import judge
from evaluation.surfaces_engine import answers, engine_of
from evaluation.trials import population_of, trial
from privacy.accountant import default_delta
from privacy.plan import Trust
from server.coordination.config import Participants
from server.registry import ModelVersion
from server.serving.query import Surface
from simulation.federated import FederationSettings

OURS = "fedrank"
EPSILON = 8.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What one exam found.

    Attributes:
        questions, shoppers: how many were judged.
        delta: that goes with EPSILON.
        ours: the private model through the serving engine, mean over noise seeds.
        exact: the same federation without noise; None where it was not asked for.
        spread: standard deviation of `ours` over noise seeds, of each metric.
        baselines: the simple rankers.
    """

    surface: Surface
    name: str
    label: str
    metrics: tuple[str, ...]
    learning: Learning
    questions: int
    shoppers: int
    delta: float
    ours: Result
    exact: Result | None
    spread: dict[str, float]
    baselines: dict[str, Result]


def judge_plan(
    plan: Plan,
    studies: Sequence[Study],
    seeds: Sequence[int],
    step: Callable[[], None],
    *,
    exact: bool = True,
) -> list[Judged]:
    """Train and ask for every study of a plan, `step` after each; the results of folds are pooled.

    `exact` also trains without noise, for comparison.
    """
    found = []
    for study in studies:
        found.append(_answered(plan.learning, study, seeds, exact))
        step()
    return [_judged(plan, studies, found, place) for place in range(len(studies[0].papers))]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answered:
    """Results by seed and paper, and by paper without noise where that was asked for."""

    private: list[list[Result]]
    exact: list[Result]


def _answered(learning: Learning, study: Study, seeds: Sequence[int], exact: bool) -> _Answered:
    with population_of(study.split, study.dataset.items) as population:
        private = [_asked(study, trial(population, federation_of(learning, study, seed))) for seed in seeds]
        without = federation_of(learning, study, seeds[0]).without_privacy()
        return _Answered(private=private, exact=_asked(study, trial(population, without)) if exact else [])


def _asked(study: Study, version: ModelVersion) -> list[Result]:
    """Put every exam of a study to one engine that serves a version; they share their catalogue."""
    exams = [paper.exam for paper in study.papers]
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_of(Path(folder), exams[0], version)
        return [judge(OURS, answers(engine, exam), exam) for exam in exams]


def federation_of(learning: Learning, study: Study, seed: int) -> FederationSettings:
    """Return the private federation of a study, with its randomness from one seed."""
    recipe = learning.recipe
    return FederationSettings(
        participants=Participants.SHOPPERS,
        trust=Trust.CENTRAL,
        epsilon=EPSILON,
        delta=default_delta(len(study.split.shoppers)),
        rounds=recipe.rounds,
        clock=str(study.dataset.clock),
        seed=seed,
        noise_seed=seed,
        dim=recipe.dim,
        encoder=learning.encoder,
        basis=recipe.basis,
        recency=recipe.recency,
        prior=recipe.prior,
        damping=recipe.damping,
        **learned_for(learning.surfaces, study.dataset),
    )


def _judged(plan: Plan, studies: Sequence[Study], found: Sequence[_Answered], place: int) -> Judged:
    """Return what one paper found, over all folds."""
    papers = [study.papers[place] for study in studies]
    splits = [study.split for study in studies]
    seeds = [
        _over([one.private[seed][place] for one in found], splits) for seed in range(len(found[0].private))
    ]
    baselines = {
        name: _over([paper.baselines[name] for paper in papers], splits) for name in papers[0].baselines
    }
    return Judged(
        surface=papers[0].exam.surface,
        name=papers[0].exam.name,
        label=papers[0].exam.label,
        metrics=plan.metrics,
        learning=plan.learning,
        questions=sum(len(paper.exam.questions) for paper in papers),
        shoppers=len(seeds[0].shoppers),
        delta=default_delta(len(splits[0].shoppers)),
        ours=mean_result(seeds),
        exact=_over([one.exact[place] for one in found], splits) if found[0].exact else None,
        spread={metric: float(np.std([one.mean(metric) for one in seeds])) for metric in plan.metrics},
        baselines=baselines,
    )


def _over(results: Sequence[Result], splits: Sequence[Split]) -> Result:
    """Return the one result there is, or the mean of each shopper over the folds."""
    return results[0] if len(results) == 1 else pooled(results, splits)
