"""`fedrank bench accuracy`: utility at stated epsilons against targets, and the page docs/results.md."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from evaluation.bench.ablation import ablation
from evaluation.bench.cold import DATA as COLD_DATA
from evaluation.bench.cold import cold_found, cold_rows
from evaluation.bench.judging import SETS, Judged, judge_task, present
from evaluation.bench.recipes import TASKS, Task
from evaluation.bench.results_page import Everything, page
from evaluation.bench.rows import Row
from evaluation.both_samplers import pfedrec_rows
from evaluation.errors import SettingsError
from evaluation.protocol import paired_difference
from evaluation.settings import Watch, config_hash

SEEDS = (1, 2, 3, 4, 5)
ABLATED = (
    "ml-100k, last new item",
    "online-retail, last new item",
    "amazon18-industrial, last new item",
)
ABLATION_SEEDS = 2
QUICK = ("ml-100k, last new item", "ml-100k, last item, 99 leak-free negatives")
PAGE = Path("docs/results.md")
BASKET_SHARE = 0.9
"""Least share of the central twin's recall that the private model must reach on the next basket."""


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Judge every task whose data are here; the whole bench with all data also writes docs/results.md.

    Raises:
        SettingsError: no data set is here.
    """
    tasks = [task for task in TASKS if present(task) and (not quick or task.name in QUICK)]
    if not tasks:
        raise SettingsError(
            f"no data set of the accuracy bench lies in {SETS}; set FEDRANK_DATA to their folder (docs/benches.md)"
        )
    seeds = SEEDS[:1] if quick else SEEDS
    watch.begin("training and judging", len(tasks))
    judged = []
    for task in tasks:
        judged.append(judge_task(task, seeds))
        watch.step()
    rows = [row for found in judged for row in rows_of(found)]
    return rows if quick else rows + _more(tasks, judged, watch)


def _more(tasks: list[Task], judged: list[Judged], watch: Watch) -> list[Row]:
    """Compare the rules for negatives, ask for cold items, take recipes apart, and write the page."""
    ablated = [task for task in tasks if task.name in ABLATED]
    watch.begin("items absent from train, both rules for negatives, ablations", 2 + len(ablated))
    cold = cold_found() if (SETS / COLD_DATA).is_dir() else None
    watch.step()
    samplers = pfedrec_rows(SETS / "ml-100k", seed=SEEDS[0]) if (SETS / "ml-100k").is_dir() else []
    watch.step()
    parts = {}
    for task in ablated:
        parts[task.name] = (task.metrics[0], ablation(task, SEEDS[:ABLATION_SEEDS]))
        watch.step()
    if PAGE.parent.is_dir() and len(tasks) == len(TASKS):
        found = Everything(judged=judged, cold=cold, samplers=samplers, ablations=parts)
        PAGE.write_text(page(found, hash_of(tasks), len(SEEDS)), encoding="utf-8")
    return [] if cold is None else cold_rows(cold)


def hash_of(tasks: list[Task]) -> str:
    """Return the hash of everything that a reader needs to train the same models."""
    return config_hash({"tasks": [asdict(task) for task in tasks], "seeds": SEEDS})


def rows_of(found: Judged) -> list[Row]:
    """Return the rows of one task: each metric of each condition, and what must beat what."""
    rows = []
    for condition in found.task.conditions:
        result = found.federated[condition.words]
        for metric in found.task.metrics:
            rows.append(
                Row(
                    measure=f"{found.task.name}: {metric}, {condition.words}",
                    value=result.mean(metric),
                    unit=metric,
                    target=condition.targets.get(metric),
                )
            )
        rows += [_above(found, condition.words, floor) for floor in found.baselines if _is_floor(floor)]
    if found.task.central and (private := [c for c in found.task.conditions if c.epsilon is not None]):
        metric = found.task.metrics[0]
        twin = found.baselines["two towers, central"].mean(metric)
        share = found.federated[private[0].words].mean(metric) / twin
        words = f"{found.task.name}: {metric}, {private[0].words} / central twin"
        rows.append(Row(measure=words, value=share, unit="ratio", target=BASKET_SHARE))
    return rows


def _is_floor(baseline: str) -> bool:
    """Return whether whatever spends budget must beat this model."""
    return baseline == "popularity" or baseline.startswith("content only")


def _above(found: Judged, condition: str, floor: str) -> Row:
    """Return the lower end of the 95 % interval of the paired difference; above 0 the model beats the floor."""
    metric = found.task.metrics[0]
    interval = paired_difference(found.federated[condition], found.baselines[floor], metric)
    return Row(
        measure=f"{found.task.name}: {metric}, {condition} less {floor}, lower end of the 95 % interval",
        value=interval.low,
        unit=metric,
        target=0.0,
    )
