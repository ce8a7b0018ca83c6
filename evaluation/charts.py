"""Small charts as inline SVG: no script, no asset from outside, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 640.0, 300.0
_LEFT, _TOP, _BOTTOM = 64.0, 20.0, 58.0
_ROW, _LABELS, _CLOSE = 30.0, 250.0, 80.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points (x, y) in the order in which they are joined."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What an axis shows; marks are (position, label)."""

    title: str
    marks: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """One line, with levels to compare it with: (name, value) drawn as dashed lines."""

    title: str
    line: Line
    x: Axis
    y: Axis
    levels: Sequence[tuple[str, float]] = field(default=())

    @property
    def right(self) -> float:
        """Where the plot ends; names of levels stand beyond."""
        return _WIDTH - (150.0 if self.levels else 24.0)

    @property
    def top(self) -> float:
        """The largest value shown."""
        return max([y for _, y in self.line.points] + [value for _, value in self.levels]) or 1.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value with its interval; `strong` marks the one that matters."""

    name: str
    mean: float
    low: float
    high: float
    strong: bool


def draw_lines(chart: LineChart) -> Markup:
    """The chart as an <svg> element with a text alternative."""
    across, down = _scales(chart)
    parts = [*_horizontal_grid(chart, down), *_vertical_marks(chart, across), *_levels(chart, down)]
    places = [(across(x), down(y)) for x, y in chart.line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(Markup('<polyline class="line" points="{}"/>').format(path))
    for (x, y), (_, value) in zip(places, chart.line.points, strict=True):
        dot = '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"><title>{:.4f}</title></circle>'
        parts.append(Markup(dot).format(x, y, value))
    parts.append(_text((_LEFT + chart.right) / 2, _HEIGHT - 6, chart.x.title, "axis", "middle"))
    values = ", ".join(f"{value:.4f}" for _, value in chart.line.points)
    return _svg(chart.title, f"{chart.line.name}: {values}", _HEIGHT, parts)


def draw_bars(title: str, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars with interval whiskers, one row each."""
    top = max(bar.high for bar in bars) or 1.0
    room = _WIDTH - _LABELS - 70.0

    def across(value: float) -> float:
        return _LABELS + room * max(value, 0.0) / top

    parts: list[Markup] = []
    for index, bar in enumerate(bars):
        parts += _bar(bar, 8.0 + index * _ROW, across)
    values = "; ".join(f"{bar.name} {bar.mean:.4f} ({bar.low:.4f} to {bar.high:.4f})" for bar in bars)
    return _svg(title, values, 16.0 + _ROW * len(bars), parts)


def _bar(bar: Bar, y: float, across: Callable[[float], float]) -> list[Markup]:
    """Label, bar, whisker and number of one row."""
    kind, middle, height = ("bar strong" if bar.strong else "bar"), y + _ROW / 2 - 3, _ROW - 12
    width = across(bar.mean) - _LABELS
    body = '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>'
    whisker = (
        '<path class="whisker" d="M{0:.1f},{2:.1f}H{1:.1f}M{0:.1f},{3:.1f}V{4:.1f}M{1:.1f},{3:.1f}V{4:.1f}"/>'
    )
    return [
        _text(_LABELS - 10, middle + 4, bar.name, "label strong" if bar.strong else "label", "end"),
        Markup(body).format(kind, _LABELS, middle - height / 2, width, height),
        Markup(whisker).format(across(bar.low), across(bar.high), middle, middle - 5, middle + 5),
        _text(across(bar.high) + 8, middle + 4, f"{bar.mean:.4f}", "value", "start"),
    ]


def _scales(chart: LineChart) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From values to places on the page; the vertical axis begins at 0."""
    shape = math.log if chart.x.logarithmic else float
    xs = [shape(x) for x, _ in chart.line.points]
    span = max(xs) - min(xs)

    def across(x: float) -> float:
        share = (shape(x) - min(xs)) / span if span else 0.5
        return _LEFT + 16 + share * (chart.right - _LEFT - 48)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * max(y, 0.0) / (1.08 * chart.top)

    return across, down


def _horizontal_grid(chart: LineChart, down: Callable[[float], float]) -> list[Markup]:
    """About five round values, each with its line."""
    step = _round_step(chart.top / 5)
    parts = [_text(4, _TOP - 8, chart.y.title, "axis", "start")]
    for index in range(int(chart.top / step) + 1):
        y = down(index * step)
        line = '<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
        parts.append(Markup(line).format(_LEFT, y, chart.right, y))
        parts.append(_text(_LEFT - 8, y + 4, f"{index * step:g}", "mark", "end"))
    return parts


def _vertical_marks(chart: LineChart, across: Callable[[float], float]) -> list[Markup]:
    """The labelled places of the horizontal axis; close labels alternate between two rows."""
    parts, last, lowered = [], -math.inf, False
    for place, label in chart.x.marks:
        x = across(place)
        lowered = x - last < _CLOSE and not lowered
        last = x
        line = '<line class="tick" x1="{0:.1f}" y1="{1:.1f}" x2="{0:.1f}" y2="{2:.1f}"/>'
        parts.append(Markup(line).format(x, _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM + 5))
        parts.append(_text(x, _HEIGHT - _BOTTOM + (32 if lowered else 18), label, "mark", "middle"))
    return parts


def _levels(chart: LineChart, down: Callable[[float], float]) -> list[Markup]:
    """Dashed lines; labels that would touch are moved apart."""
    parts, last = [], math.inf
    for name, value in sorted(chart.levels, key=lambda level: level[1]):
        y = down(value)
        line = '<line class="level" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
        parts.append(Markup(line).format(_LEFT, y, chart.right, y))
        last = min(y + 4, last - 13)
        parts.append(_text(chart.right + 6, last, name, "mark", "start"))
    return parts


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-12))


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> Markup:
    text = '<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(text).format(kind, x, y, anchor, escape(words))


def _svg(title: str, values: str, height: float, parts: Sequence[Markup]) -> Markup:
    """The frame, with a name and a description for those who cannot see it."""
    frame = '<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>'
    return Markup(frame).format(_WIDTH, height, f"{title}. {values}", Markup("").join(parts))
