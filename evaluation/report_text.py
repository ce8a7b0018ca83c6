"""The short report for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evaluation.report_contract import Report, warnings_of
from evaluation.report_words import (
    PRIVATE,
    duration,
    headline,
    is_simulated,
    main_metrics,
    metric_title,
    number,
    ordered,
    promise,
    size,
    title_of,
)

_COLUMNS = 3  # with intervals they fit into 80 characters


def render(report: Report) -> RenderableType:
    """Data label, privacy statement, warnings, models and cost: something that `rich` can print.

    The report must be valid. Nothing in it is read as markup.
    """
    return Group(
        *[Panel(Text(text, style="bold"), border_style="red", style="red") for text in warnings_of(report)],
        _data(report),
        Text.assemble(("Privacy  ", "bold"), promise(report)),
        *[Text(line) for line in [headline(report)] if line],
        _models(report),
        _cost(report),
    )


def _data(report: Report) -> Text:
    data = report["data"]
    counts = ", ".join(f"{number(data[key])} {key}" for key in ("shoppers", "items", "events", "merchants"))
    style = "bold black on yellow" if is_simulated(report) else "bold"
    lines = Text.assemble(("Data     ", "bold"), f"{data['name']}: ", (data["label"], style), f"; {counts}")
    return lines.append("\nConsent  ", "bold").append(data["consent"]) if "consent" in data else lines


def _models(report: Report) -> Table:
    """Means with half the width of their interval."""
    measured = main_metrics(report)[:_COLUMNS]
    table = Table()
    table.add_column("Model", min_width=12)
    for metric in measured:
        table.add_column(metric_title(metric), justify="right", no_wrap=True)
    for model in ordered(report["models"]):
        cells = [_cell(report["models"][model].get(metric)) for metric in measured]
        table.add_row(Text(title_of(model, report)), *cells, style="bold" if model == PRIVATE else "")
    return table


def _cell(interval: Report | None) -> str:
    if interval is None:
        return "–"
    half = (interval["high"] - interval["low"]) / 2
    return f"{interval['mean']:.4f} ±{half:.4f}" if half else f"{interval['mean']:.4f}"


def _cost(report: Report) -> Text:
    cost = report["cost"]
    return Text(
        f"{duration(cost['seconds'])}, {duration(cost['cpu_seconds'])} of processor time, "
        f"{number(float(cost['shoppers_per_cpu_second']))} shoppers per processor second, "
        f"{size(cost['peak_rss_bytes'])} of memory"
    )
