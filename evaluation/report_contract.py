"""What `report.json` must hold: the words that machines read are a contract."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from evaluation.beyond import BEYOND
from evaluation.errors import ReportError
from evaluation.metrics import ACCURACY

Report: TypeAlias = Mapping[str, Any]

TRUSTS = ("central", "local", "distributed", "none")
UNPROTECTED = "UNPROTECTED: no noise was added; nothing in this run protects any shopper."
"""The warning that every report of trust model `none` bears, whoever wrote it."""

_SECTIONS = ("data", "privacy", "models", "cost")
_STRINGS = ("version", "config_hash", "model_hash")
_DATA_COUNTS = ("shoppers", "items", "events", "merchants")
_PRIVACY = ("epsilon", "delta", "unit", "trust", "mechanism", "rounds")
_COST = ("seconds", "cpu_seconds", "shoppers_per_cpu_second", "peak_rss_bytes")
_INTERVAL = ("mean", "low", "high")
_UTILITY = ("epsilon", "metric", "value")
_LEARNING = ("round", "stage", "metric", "value")
_METRIC = re.compile(rf"(sampled\d+_)?(({'|'.join(ACCURACY + BEYOND)})@[1-9]\d*|auc)")
_ROUNDING = 1e-9


def validate(report: Report) -> None:
    """Raise ReportError where the report breaks the contract; what goes beyond it is not looked at."""
    _has("report", report, _SECTIONS + _STRINGS)
    for section in _SECTIONS:
        if not isinstance(report[section], Mapping):
            _refuse(section, report[section], "an object")
    for key in _STRINGS:
        _string(key, report[key])
    _check_data(report["data"])
    _check_privacy(report["privacy"])
    _check_models(report["models"])
    _has("cost", report["cost"], _COST)
    for key in _COST:
        _number(f"cost.{key}", report["cost"][key], at_least=0)
    _check_extras(report)


def warnings_of(report: Report) -> list[str]:
    """The report's warnings, with the loud one first where nothing protects the shoppers."""
    warnings = list(report.get("warnings", []))
    if report["privacy"]["trust"] == "none" and not any("UNPROTECTED" in text for text in warnings):
        warnings.insert(0, UNPROTECTED)
    return warnings


def _check_data(data: Report) -> None:
    _has("data", data, ("name", "label", *_DATA_COUNTS))
    for key in ("name", "label"):
        _string(f"data.{key}", data[key])
    for key in _DATA_COUNTS:
        _number(f"data.{key}", data[key], at_least=0, whole=True)


def _check_privacy(privacy: Report) -> None:
    """A run without noise states no epsilon: a number there would be a false promise."""
    _has("privacy", privacy, _PRIVACY)
    if privacy["trust"] not in TRUSTS:
        _refuse("privacy.trust", privacy["trust"], f"one of {', '.join(TRUSTS)}")
    if privacy["unit"] != "shopper":
        _refuse("privacy.unit", privacy["unit"], "'shopper'")
    _string("privacy.mechanism", privacy["mechanism"])
    _number("privacy.rounds", privacy["rounds"], at_least=0, whole=True)
    if privacy["trust"] == "none":
        if privacy["epsilon"] is not None:
            _refuse("privacy.epsilon", privacy["epsilon"], "null under trust 'none', which promises nothing")
        return
    _number("privacy.epsilon", privacy["epsilon"], at_least=0)
    _number("privacy.delta", privacy["delta"], at_least=0)
    if not 0 < privacy["delta"] < 1:
        _refuse("privacy.delta", privacy["delta"], "between 0 and 1")


def _check_models(models: Report) -> None:
    if not models:
        _refuse("models", "empty", "at least one model")
    for model, metrics in models.items():
        if not isinstance(metrics, Mapping) or not metrics:
            _refuse(f"models.{model}", metrics, "an object of metrics")
        for metric, interval in metrics.items():
            where = f"models.{model}.{metric}"
            if not _METRIC.fullmatch(metric):
                _refuse(where, metric, "a metric name like ndcg@10, recall@20 or auc")
            _check_interval(where, interval)


def _check_interval(where: str, interval: Any) -> None:
    _has(where, interval, _INTERVAL)
    low, mean, high = (_number(f"{where}.{end}", interval[end]) for end in ("low", "mean", "high"))
    if not low - _ROUNDING <= mean <= high + _ROUNDING:
        _refuse(where, (low, mean, high), "low <= mean <= high")


def _check_extras(report: Report) -> None:
    """Curves, merchants, warnings and plan, where they are there."""
    curves = report.get("curves", {})
    for name, keys in (("utility_epsilon", _UTILITY), ("learning", _LEARNING)):
        for index, point in enumerate(curves.get(name, [])):
            _has(f"curves.{name}[{index}]", point, keys)
            _number(f"curves.{name}[{index}].value", point["value"])
    for index, point in enumerate(curves.get("utility_epsilon", [])):
        where = f"curves.utility_epsilon[{index}].epsilon"
        if _number(where, point["epsilon"], at_least=0) == 0:
            _refuse(where, 0, "above 0 (leave out a run without noise: it is a model of its own)")
    for index, row in enumerate(report.get("per_merchant", [])):
        _has(f"per_merchant[{index}]", row, ("merchant", "items"))
    for name in ("warnings", "plan"):
        if not isinstance(report.get(name, []), Sequence) or isinstance(report.get(name), str):
            _refuse(name, report[name], "a list")


def _has(where: str, part: Any, keys: Sequence[str]) -> None:
    if not isinstance(part, Mapping):
        _refuse(where, part, "an object")
    if missing := [key for key in keys if key not in part]:
        raise ReportError(f"{where} lacks {', '.join(missing)}; the contract names {', '.join(keys)}")


def _string(where: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        _refuse(where, value, "a text that is not empty")


def _number(where: str, value: Any, *, at_least: float = -math.inf, whole: bool = False) -> float:
    kinds = (int,) if whole else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, kinds)
        or not math.isfinite(value)
        or value < at_least
    ):
        floor = "" if at_least == -math.inf else f" of at least {at_least}"
        _refuse(where, value, f"a {'whole' if whole else 'finite'} number{floor}")
    return float(value)


def _refuse(where: str, value: Any, wanted: str) -> None:
    raise ReportError(f"{where} is {value!r}, expected {wanted}; correct it where the report is made")
