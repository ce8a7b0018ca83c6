"""The accuracy bench as a page: one table per task, with recipes, intervals and what is below its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.bench.ablation import Contribution
from evaluation.bench.cold import DATA as COLD_DATA
from evaluation.bench.cold import METRIC, ColdFound
from evaluation.bench.judging import Judged
from evaluation.bench.recipes import Condition
from evaluation.both_samplers import SamplerRow
from evaluation.protocol import Result

HEAD = """# Results

Written by `fedrank bench accuracy` (config hash `{hash}`, {seeds} noise seeds, mean; intervals are 95 % bootstrap
intervals over shoppers of the mean over seeds). Adjacency: add or remove one shopper with all events. Negatives,
where any are drawn, exclude train items only. Full ranking unless a task says otherwise. Recipes were chosen on
validation cuts of train (docs/adr/0014-start-of-the-user-tower.md).
"""


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All that the page shows; `ablations` holds by task its metric and lines, `cold` is None without the data."""

    judged: Sequence[Judged]
    cold: ColdFound | None
    samplers: Sequence[SamplerRow]
    ablations: Mapping[str, tuple[str, Sequence[Contribution]]]


def page(found: Everything, config: str, seeds: int) -> str:
    """Return the page in Markdown."""
    parts = [HEAD.format(hash=config, seeds=seeds)]
    parts += [_task(judged) for judged in found.judged]
    if found.cold is not None:
        parts.append(_cold(found.cold))
    if found.samplers:
        parts.append(_samplers(found.samplers))
    parts.append("## What each stage and choice contributes, epsilon 8\n")
    parts += [_ablation(name, metric, lines) for name, (metric, lines) in found.ablations.items()]
    return "\n".join(parts)


def _cold(found: ColdFound) -> str:
    """Items absent from train: the content tower of docs/adr/0011 and what it must beat."""
    lines = [
        f"## {COLD_DATA}, items absent from train\n",
        f"Encoder `{found.encoder}`; five folds, ranked among cold items (docs/content.md).\n",
        f"| model | {METRIC} |",
        "|---|---|",
    ]
    lines += [f"| {name} | {_figure(result, METRIC)} |" for name, result in found.results.items()]
    return "\n".join([*lines, ""])


def _samplers(rows: Sequence[SamplerRow]) -> str:
    """Why published figures of the PFedRec family are not comparable."""
    lines = [
        "## ml-100k, last item, under both rules for training negatives\n",
        "`published`: negatives are drawn from all items but all of the shopper's, the held-out one too, so that it",
        "is never a negative in training and the 99 others are. `leak-free`: only train items are excluded.\n",
        "| model | negatives in training | HR@10 | NDCG@10 |",
        "|---|---|---|---|",
    ]
    for row in rows:
        rule = "none drawn" if row.rule is None else str(row.rule)
        lines.append(f"| {row.model} | {rule} | {row.accuracy.hit_rate:.3f} | {row.accuracy.ndcg:.3f} |")
    return "\n".join([*lines, ""])


def _ablation(name: str, metric: str, contributions: Sequence[Contribution]) -> str:
    lines = [f"### {name}\n", f"| the private recipe with one thing changed | {metric} |", "|---|---|"]
    lines += [f"| {line.words} | {line.value:.4f} ±{line.spread:.4f} |" for line in contributions]
    return "\n".join([*lines, ""])


def _task(judged: Judged) -> str:
    metrics = judged.task.metrics
    lines = [f"## {judged.task.name}", "", "| model | " + " | ".join(metrics) + " |"]
    lines.append("|---|" + "---|" * len(metrics))
    for name, result in judged.baselines.items():
        lines.append(f"| {name} | " + " | ".join(_figure(result, metric) for metric in metrics) + " |")
    for condition in judged.task.conditions:
        cells = [_against(judged, condition, metric) for metric in metrics]
        lines.append(f"| **federated, {condition.words}** | " + " | ".join(cells) + " |")
    recipes = dict.fromkeys(f"`{c.recipe.words()}` ({c.words})" for c in judged.task.conditions)
    lines += ["", "Recipes: " + "; ".join(recipes) + ".", ""]
    return "\n".join(lines)


def _against(judged: Judged, condition: Condition, metric: str) -> str:
    """Return a figure with its spread over noise seeds and its target."""
    text = _figure(judged.federated[condition.words], metric)
    if condition.epsilon is not None:
        text += f", seeds ±{judged.spread[condition.words][metric]:.4f}"
    target = condition.targets.get(metric)
    if target is None:
        return text
    met = judged.federated[condition.words].mean(metric) >= target
    return f"{text}; target {target:g}: {'met' if met else 'NOT met'}"


def _figure(result: Result, metric: str) -> str:
    interval = result.summary()[metric]
    return f"{interval['mean']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"
