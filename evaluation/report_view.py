"""From a validated report to what the page shows: words, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from evaluation.charts import Axis, Bar, Line, LineChart, draw_bars, draw_lines
from evaluation.report_contract import Report, warnings_of
from evaluation.report_words import (
    PRIVATE,
    TRUST,
    duration,
    headline,
    is_simulated,
    main_metrics,
    metric_title,
    number,
    ordered,
    promise,
    silent_words,
    size,
    title_of,
    words,
)
from privacy.anonymity import K

Table = dict[str, Any]
_SHOWN_APART = {"name", "label", "epsilon", "delta", "unit", "trust", "mechanism", "rounds", "if_silent"}


def view_of(report: Report) -> dict[str, Any]:
    """Everything that the template names."""
    privacy = report["privacy"]
    return {
        "data": report["data"],
        "simulated": is_simulated(report),
        "warnings": warnings_of(report),
        "promise": promise(report),
        "headline": headline(report),
        "protected": privacy["trust"] != "none",
        "privacy": _privacy_facts(privacy),
        "odds": None if privacy["epsilon"] is None else _odds(privacy["epsilon"]),
        "plan": _table(report.get("plan", [])),
        "main": _models(report, main_metrics(report)),
        "all": _models(report, sorted({m for metrics in report["models"].values() for m in metrics})),
        "bars": _bars(report),
        "utility": _utility(report),
        "learning": _learning(report),
        "merchants": _table(report.get("per_merchant", [])),
        "fewest": K,
        "cost": _cost(report["cost"]),
        "facts_of_data": _facts(report["data"]),
        "origin": [(words(key), report[key]) for key in ("version", "config_hash", "model_hash")],
        "config": _facts(report.get("config", {})),
    }


def _privacy_facts(privacy: Report) -> list[tuple[str, str]]:
    """The statement as a list; what goes beyond the contract follows in its own words."""
    epsilon, delta = privacy["epsilon"], privacy["delta"]
    facts = [
        ("Epsilon", "no bound" if epsilon is None else number(epsilon)),
        ("Delta", "no bound" if not delta else f"{delta:.3g} (1 in {1 / delta:,.0f})"),
        ("Unit", f"one {privacy['unit']}: all events of that person"),
        ("Trust model", f"{privacy['trust']}. {TRUST[privacy['trust']]}"),
        ("Mechanism", privacy["mechanism"]),
        ("Rounds", number(privacy["rounds"])),
    ]
    if privacy.get("if_silent"):
        facts.append(("If participants lie and add no noise", silent_words(privacy)))
    return facts + _facts(privacy)


def _odds(epsilon: float) -> str:
    """The factor e^epsilon by which a probability may differ."""
    factor = math.exp(min(epsilon, 700.0))
    return f"{factor:,.2f}" if factor < 100 else f"{factor:,.0f}" if factor < 1e9 else f"{factor:.1e}"


def _facts(part: Report) -> list[tuple[str, str]]:
    """All entries that no other place shows."""
    return [(words(key), number(value)) for key, value in part.items() if key not in _SHOWN_APART]


def _models(report: Report, metrics: Sequence[str]) -> Table:
    """One row per model: title, whether it protects shoppers, and (mean, low, high) or None per metric."""
    protects = report["privacy"]["trust"] != "none"
    rows = [
        {
            "title": title_of(model, report),
            "strong": model == PRIVATE,
            "protects": protects and model == PRIVATE,
            "cells": [_cell(report["models"][model].get(metric)) for metric in metrics],
        }
        for model in ordered(report["models"])
    ]
    return {"columns": [metric_title(metric) for metric in metrics], "rows": rows}


def _cell(interval: Mapping[str, float] | None) -> tuple[str, str] | None:
    """Mean, and the interval where there is one."""
    if interval is None:
        return None
    wide = interval["low"] < interval["high"]
    return f"{interval['mean']:.4f}", f"{interval['low']:.4f} – {interval['high']:.4f}" if wide else ""


def _bars(report: Report) -> Markup:
    """The first main metric of all models."""
    metric = main_metrics(report)[0]
    bars = [
        Bar(name=title_of(model, report), strong=model == PRIVATE, **report["models"][model][metric])
        for model in ordered(report["models"])
        if metric in report["models"][model]
    ]
    return draw_bars(f"{metric_title(metric)} of all models, with 95 % intervals", bars)


def _utility(report: Report) -> list[Table]:
    """One chart per metric: what each epsilon buys, against the models that promise nothing."""
    charts = []
    for metric, points in _by_metric(report, "utility_epsilon").items():
        points = sorted(points, key=lambda point: point["epsilon"])
        chart = LineChart(
            title=f"{metric_title(metric)} by epsilon",
            line=Line(name="Private model", points=[(p["epsilon"], p["value"]) for p in points]),
            x=Axis(
                title="epsilon (smaller protects more; logarithmic)",
                marks=[(p["epsilon"], number(p["epsilon"])) for p in points],
                logarithmic=True,
            ),
            y=Axis(title=metric_title(metric)),
            levels=[
                (title_of(model, report).replace("Two towers, ", ""), metrics[metric]["mean"])
                for model, metrics in report["models"].items()
                if model != PRIVATE and metric in metrics
            ],
        )
        charts.append({"svg": draw_lines(chart), "table": _table(points), "title": chart.title})
    return charts


def _learning(report: Report) -> list[Table]:
    """One chart per metric: the value after every round, stages named where they begin."""
    charts = []
    for metric, points in _by_metric(report, "learning").items():
        begins = [i for i, p in enumerate(points) if i == 0 or p["stage"] != points[i - 1]["stage"]]
        marked = sorted({*begins, len(points) - 1})
        chart = LineChart(
            title=f"{metric_title(metric)} by round",
            line=Line(name=metric_title(metric), points=[(i, p["value"]) for i, p in enumerate(points)]),
            x=Axis(
                title="round, with its stage",
                marks=[(i, f"{points[i]['stage']} {points[i]['round']}") for i in marked],
            ),
            y=Axis(title=metric_title(metric)),
        )
        charts.append({"svg": draw_lines(chart), "table": _table(points), "title": chart.title})
    return charts


def _by_metric(report: Report, curve: str) -> dict[str, list[Report]]:
    """The points of a curve, metric by metric, in their order."""
    points: dict[str, list[Report]] = {}
    for point in report.get("curves", {}).get(curve, []):
        points.setdefault(point["metric"], []).append(point)
    return points


def _table(rows: Sequence[Any]) -> Table | None:
    """Rows of one kind as columns and cells; a row that is plain text is a table of one column."""
    if not rows:
        return None
    even = [row if isinstance(row, Mapping) else {"step": row} for row in rows]
    keys = list(dict.fromkeys(key for row in even for key in row))
    cells = [[_value(key, row.get(key)) for key in keys] for row in even]
    numeric = [all(isinstance(row.get(key), int | float | None) for row in even) for key in keys]
    return {
        "columns": [metric_title(k) if "@" in k else words(k) for k in keys],
        "numeric": numeric,
        "rows": cells,
    }


def _value(key: str, value: Any) -> str:
    """A cell; metrics have four decimals, an interval shows its ends."""
    if isinstance(value, Mapping) and {"mean", "low", "high"} <= set(value):
        return f"{value['mean']:.4f} ({value['low']:.4f} – {value['high']:.4f})"
    if isinstance(value, float) and ("@" in key or key == "auc"):
        return f"{value:.4f}"
    return "–" if value is None else number(value)


def _cost(cost: Report) -> list[tuple[str, str]]:
    """Time and memory in readable units; what goes beyond the contract follows."""
    known = [
        ("wall-clock time", duration(cost["seconds"])),
        ("processor time", duration(cost["cpu_seconds"])),
        ("shoppers per processor second", number(float(cost["shoppers_per_cpu_second"]))),
        ("peak memory", size(cost["peak_rss_bytes"])),
    ]
    shown = {"seconds", "cpu_seconds", "shoppers_per_cpu_second", "peak_rss_bytes"}
    return known + _facts({key: value for key, value in cost.items() if key not in shown})
