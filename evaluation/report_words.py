"""Words and number formats that the page and the terminal share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.report_contract import Report

MODELS: Mapping[str, str] = {
    "two_tower_private": "Two towers, federated, private",
    "two_tower_federated": "Two towers, federated, no noise",
    "two_tower_central": "Two towers, central, no privacy",
    "ials": "iALS",
    "item_neighbours": "Item neighbours",
    "popularity": "Popularity",
}
"""Names for people, in the order in which models are shown; other models follow under their own name."""

PRIVATE = "two_tower_private"
MAIN_METRICS = ("ndcg@10", "recall@20", "auc", "mrr@10", "coverage@10")

TRUST: Mapping[str, str] = {
    "central": "Participants send bounded sums; the coordinator adds the noise before anything is released. "
    "The coordinator is trusted with the sums of a round, and with nothing else.",
    "local": "Every participant adds the noise itself, before anything leaves it. Nobody else need be trusted.",
    "distributed": "Every participant adds a share of the noise; the sum over a cohort has enough of it. Under "
    "secure aggregation the coordinator sees that sum and nothing else, and need not be trusted.",
    "none": "Nobody adds noise. Whoever sees an update can learn about single shoppers from it.",
}

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def ordered(models: Mapping[str, Any]) -> list[str]:
    """Model names in the order of MODELS, others behind."""
    return [name for name in MODELS if name in models] + [name for name in models if name not in MODELS]


def title_of(model: str, report: Report) -> str:
    """The model's name for people; without noise nothing is called private."""
    if model == PRIVATE and report["privacy"]["trust"] == "none":
        return "Two towers, federated, UNPROTECTED"
    return MODELS.get(model, model)


def metric_title(metric: str) -> str:
    """`ndcg@10` as people write it; the sampled protocol is spelled out."""
    drawn, _, rest = metric.rpartition("_")
    name, at, depth = rest.partition("@")
    upper = name.upper() if name in {"ndcg", "mrr", "map", "auc", "f1"} else name.capitalize()
    return f"{upper}{at}{depth}" + (
        f" (against {drawn.removeprefix('sampled')} drawn items)" if drawn else ""
    )


def number(value: Any) -> str:
    """A number, text or small structure for people."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{words(str(key))}: {number(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(number(part) for part in value)
    return str(value)


def words(key: str) -> str:
    """A key of the report as words."""
    return key.replace("_", " ")


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    power = min(int(math.log(max(count, 1), 1024)), len(_UNITS) - 1)
    return (
        f"{count / 1024**power:,.0f} {_UNITS[power]}"
        if power < 3
        else f"{count / 1024**power:,.2f} {_UNITS[power]}"
    )


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds where that reads better."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def is_simulated(report: Report) -> bool:
    """Whether the data were made and not recorded."""
    return "simulated" in str(report["data"]["label"]).lower()


def promise(report: Report) -> str:
    """The privacy statement in one sentence."""
    privacy = report["privacy"]
    if privacy["trust"] == "none":
        return "This run makes no privacy promise: no noise was added."
    return (
        f"Every {privacy['unit']} is protected by differential privacy with epsilon = "
        f"{number(privacy['epsilon'])} and delta = {privacy['delta']:.2g} over all of the run's "
        f"{number(privacy['rounds'])} rounds together, by the {privacy['trust']} trust model.{_if_silent(privacy)}"
    )


def silent_words(privacy: Mapping[str, Any]) -> str:
    """What holds if some participants lie and add no noise; the more lie, the less is left in the smallest cohort."""
    stated = "; ".join(
        f"{number(row['participants'])} of {number(privacy['most_participants'])}: epsilon "
        f"{'without bound' if row['epsilon'] is None else number(row['epsilon'])}"
        for row in privacy["if_silent"]
    )
    return f"{stated} (noise is calibrated for {number(privacy['minimum_cohort'])})"


def _if_silent(privacy: Mapping[str, Any]) -> str:
    """The worst stated case as a sentence, where noise comes in shares."""
    if not privacy.get("if_silent"):
        return ""
    worst = privacy["if_silent"][-1]
    epsilon = "nothing is promised" if worst["epsilon"] is None else f"it is {number(worst['epsilon'])}"
    return f" If {number(worst['participants'])} participants lie and add no noise, {epsilon}."


def main_metrics(report: Report) -> list[str]:
    """What the main table shows: the usual metrics, or (under another protocol) the first of what there is."""
    measured = {metric for metrics in report["models"].values() for metric in metrics}
    return [m for m in MAIN_METRICS if m in measured] or sorted(measured)[: len(MAIN_METRICS)]


def headline(report: Report) -> str | None:
    """How the model of the run stands against popularity and its twin without noise, where all were measured."""
    models, metric = report["models"], MAIN_METRICS[0]
    if metric not in models.get(PRIVATE, {}):
        return None
    protected = report["privacy"]["trust"] != "none"
    rivals = {"popularity": "popularity"}
    if protected:
        rivals["two_tower_federated"] = "the same federation without noise"
    reached = models[PRIVATE][metric]
    times = [
        f"{reached['mean'] / models[model][metric]['mean']:.2f} times {name}"
        for model, name in rivals.items()
        if models.get(model, {}).get(metric, {}).get("mean", 0) > 0
    ]
    return (
        f"The {'private' if protected else 'UNPROTECTED federated'} model reaches {metric_title(metric)} "
        f"{reached['mean']:.4f} (95 % interval {reached['low']:.4f} to {reached['high']:.4f})"
        f"{': ' if times else ''}{' and '.join(times)}."
    )
