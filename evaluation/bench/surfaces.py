"""`fedrank bench surfaces`: what the endpoint answers on every surface, beside named simple rankers, and its page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from evaluation.bench.judging import SETS
from evaluation.bench.rows import Row
from evaluation.bench.surfaces_floor import Floor, floors
from evaluation.bench.surfaces_judging import EPSILON, Judged, judge_plan
from evaluation.bench.surfaces_page import Everything, page
from evaluation.bench.surfaces_studies import DRAWN, NOVELTIES, PLANS, Plan
from evaluation.bench.surfaces_words import word_checks
from evaluation.protocol import paired_difference
from evaluation.settings import Watch, config_hash
from simulation.data import load

SEEDS = (1, 2, 3)
MOST = 1_000_000
WORD_QUERIES = 400
QUICK_QUESTIONS = 60
"""Questions to an exam, and queries to a catalogue, with --quick."""
PAGE = Path("docs/surfaces.md")


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Judge every plan whose data are here; the whole bench with all data also writes docs/surfaces.md's tables."""
    plans = [plan for plan in PLANS if plan.data is None or (not quick and (SETS / plan.data).is_dir())]
    for plan in PLANS:
        if plan not in plans:
            why = "--quick" if quick else f"no folder {plan.data} in FEDRANK_DATA, see docs/benches.md"
            watch.begin(f"left out: {plan.name} ({why})", 0)
    seeds, most = (SEEDS[:1], QUICK_QUESTIONS) if quick else (SEEDS, MOST)
    found = [one for plan in plans for one in _of(plan, seeds, most, watch)]
    watch.begin("the order of words in answers to searches", 1)
    checks = word_checks(QUICK_QUESTIONS if quick else WORD_QUERIES)
    shares = [floor for plan in plans if plan.name == NOVELTIES for floor in _floors(plan, most, watch)]
    rows = [row for one in found for row in rows_of(one)] + [check.row() for check in checks]
    rows += [share.row() for share in shares]
    if PAGE.is_file() and plans == list(PLANS):
        everything = Everything(judged=found, checks=checks, floors=shares, config=config(), seeds=len(SEEDS))
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), everything), encoding="utf-8")
    return rows


def _of(plan: Plan, seeds: tuple[int, ...], most: int, watch: Watch) -> list[Judged]:
    watch.begin(f"reading and asking simple rankers: {plan.name}", 1)
    studies = plan.studies(load(None if plan.data is None else SETS / plan.data), most)
    watch.begin(f"training and asking: {plan.name}", len(studies))
    return judge_plan(plan, studies, seeds, watch.step, exact=len(seeds) > 1)


def _floors(plan: Plan, most: int, watch: Watch) -> list[Floor]:
    watch.begin("the exposure floor of novelties", 1)
    return floors(load(SETS / str(plan.data)), plan.learning, most)


def config() -> str:
    """Return the hash of what a reader needs to train the same models and ask the same questions."""
    plans = [
        {"name": plan.name, "learning": asdict(plan.learning), "metrics": plan.metrics} for plan in PLANS
    ]
    return config_hash({"plans": plans, "seeds": SEEDS, "epsilon": EPSILON, "drawn": DRAWN})


def rows_of(one: Judged) -> list[Row]:
    """Return our figures, and the lower ends of what we are above each simple ranker."""
    title = f"{one.surface}, {one.name} ({one.label}), epsilon {EPSILON:g}"
    rows = [
        Row(measure=f"{title}: {metric}", value=one.ours.mean(metric), unit=metric) for metric in one.metrics
    ]
    metric = one.metrics[0]
    for name, baseline in one.baselines.items():
        low = paired_difference(one.ours, baseline, metric).low
        words = f"{title}: {metric} less {name}, lower end of the 95 % interval"
        rows.append(Row(measure=words, value=low, unit=metric, target=0.0))
    return rows
