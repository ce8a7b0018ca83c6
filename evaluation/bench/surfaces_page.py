"""The tables of docs/surfaces.md: one per exam, between two marks; what stands around them is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.bench.surfaces_floor import DEPTH, Floor
from evaluation.bench.surfaces_judging import EPSILON, Judged
from evaluation.bench.surfaces_words import WordCheck
from evaluation.errors import ReportError
from evaluation.protocol import Result, paired_difference

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
HEAD = """
Written by `fedrank bench surfaces` (config hash `{hash}`, {seeds} noise seeds, mean). Epsilon {epsilon:g}, delta
1 / N^1.1; adjacency: add or remove one shopper with all events. Full ranking. In brackets: 95 % bootstrap intervals
over shoppers of the mean over seeds; *ours less it* is the paired difference, *above* or *below* only where its
interval leaves out 0.
"""


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All that the page shows."""

    judged: Sequence[Judged]
    checks: Sequence[WordCheck]
    floors: Sequence[Floor]
    config: str
    seeds: int


def page(old: str, found: Everything) -> str:
    """Return the page with new tables between its marks.

    Raises:
        ReportError: the page has lost a mark.
    """
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ReportError(
            f"docs/surfaces.md lacks the line {BEGIN!r} or {END!r}; put both back around the tables"
        )
    head = HEAD.format(hash=found.config, seeds=found.seeds, epsilon=EPSILON)
    tables = [table(one) for one in found.judged]
    return "\n".join(
        [before + BEGIN, head, *tables, words(found.checks), exposure(found.floors), END + after]
    )


def table(one: Judged) -> str:
    """Return the table of one exam."""
    first = one.metrics[0]
    lines = [
        f"### {one.surface}: {one.name}\n",
        f"Data: {one.label}. {one.questions:,} questions of {one.shoppers:,} shoppers; delta {one.delta:.2g}. "
        f"Model: `{one.learning.words()}`.\n",
        "| ranker | " + " | ".join(one.metrics) + f" | ours less it, {first} |",
        "|---|" + "---|" * (len(one.metrics) + 1),
    ]
    ours = [f"{_figure(one.ours, metric)}, seeds ±{one.spread[metric]:.4f}" for metric in one.metrics]
    lines.append(f"| **fedrank, epsilon {EPSILON:g}** | " + " | ".join(ours) + " | |")
    exact = {} if one.exact is None else {"the same federation without noise": one.exact}
    others = {**exact, **one.baselines}
    for name, result in others.items():
        figures = " | ".join(_figure(result, metric) for metric in one.metrics)
        lines.append(f"| {name} | {figures} | {_against(one.ours, result, first)} |")
    return "\n".join([*lines, ""])


def _figure(result: Result, metric: str) -> str:
    interval = result.summary()[metric]
    return f"{interval['mean']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _against(ours: Result, other: Result, metric: str) -> str:
    difference = paired_difference(ours, other, metric)
    side = "above" if difference.low > 0 else "below" if difference.high < 0 else "not apart"
    return f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}): {side}"


def words(checks: Sequence[WordCheck]) -> str:
    """Return the table of searches whose answers keep, or break, the order of words."""
    lines = [
        "### search: an item that holds all words never comes after one that holds fewer\n",
        "| catalogue | queries | items listed | out of order |",
        "|---|---|---|---|",
    ]
    lines += [f"| {one.name} | {one.queries:,} | {one.listed:,} | {one.wrong:,} |" for one in checks]
    return "\n".join([*lines, ""])


def exposure(floors: Sequence[Floor]) -> str:
    """Return the table of the exposure floor."""
    lines = [
        "### home: the exposure floor of items absent from train\n",
        f"| floor | share of the first {DEPTH} places | recall@{DEPTH} of the novelties that were wanted |",
        "|---|---|---|",
    ]
    lines += [f"| {one.floor:g} | {one.places:.4f} | {one.found:.4f} |" for one in floors]
    return "\n".join([*lines, ""])
