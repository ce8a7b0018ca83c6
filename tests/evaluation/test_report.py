"""The report: the contract that machines read and the page that people read."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from evaluation.errors import ReportError
from evaluation.report import to_html, write
from evaluation.report_contract import UNPROTECTED, validate
from evaluation.report_text import render
from evaluation.report_words import duration, metric_title, number, size

EVIL = "<script>alert('x')</script>[bold]"
VOID = {"meta", "link", "br", "img", "hr", "input", "circle", "line", "rect", "path", "polyline"}


def _interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean * 0.9, "high": mean * 1.1}


def _metrics(mean: float) -> dict[str, dict[str, float]]:
    coverage = {"mean": 0.3, "low": 0.3, "high": 0.3}
    return {"ndcg@10": _interval(mean), "recall@20": _interval(2 * mean), "coverage@10": coverage}


@pytest.fixture
def report() -> dict[str, Any]:
    """A valid report of a private run with everything in it."""
    counts = {"shoppers": 1200, "items": 345, "events": 67890, "merchants": 12}
    levels = {"popularity": 0.02, "two_tower_private": 0.05, "two_tower_federated": 0.08, "ials": 0.09}
    return {
        "data": {"name": "toy", "label": "simulated (published as simulated)", "source": EVIL, **counts},
        "privacy": {
            "epsilon": 3.0,
            "delta": 1e-4,
            "unit": "shopper",
            "trust": "central",
            "mechanism": "Gaussian",
            "rounds": 5,
            "epsilon_of_a_shopper_at_several_merchants": {"merchants": 3, "epsilon": 6.5},
        },
        "models": {name: _metrics(mean) for name, mean in levels.items()},
        "cost": {
            "seconds": 95,
            "cpu_seconds": 180.5,
            "shoppers_per_cpu_second": 17000.4,
            "peak_rss_bytes": 2**31,
        },
        "version": "0.1.0",
        "config_hash": "c0ffee",
        "model_hash": "beef",
        "curves": {
            "utility_epsilon": [{"epsilon": e, "metric": "ndcg@10", "value": e / 100} for e in (8, 1, 3)],
            "learning": [
                {"round": r, "stage": "gradient", "metric": "ndcg@10", "value": r / 90} for r in range(4)
            ],
        },
        "per_merchant": [{"merchant": EVIL, "items": 9, "ndcg@10": 0.07}, {"merchant": "B", "items": 8}],
        "warnings": ["One merchant was too small."],
        "plan": [{"stage": "counts", "noise_multiplier": 2.5}],
        "config": {"rounds": 5},
    }


class _Page(HTMLParser):
    """Checks that tags close in order and collects text and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the tag."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep what people read."""
        if "style" not in self.open:
            self.text += data


def test_both_files_are_written_and_the_json_is_the_report(report: dict[str, Any], tmp_path: Path) -> None:
    """What a program reads is what was given, and no half-written file stays behind."""
    write(tmp_path / "new" / "run", report)
    assert json.loads((tmp_path / "new/run/report.json").read_text(encoding="utf-8")) == report
    assert sorted(path.name for path in (tmp_path / "new/run").iterdir()) == ["report.html", "report.json"]


def test_the_page_stands_alone(report: dict[str, Any]) -> None:
    """Well-formed, and nothing in it loads or runs anything: no script, no link, no address, no import."""
    page = to_html(report)
    parsed = _Page(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "a", "image", "use"} & set(
        parsed.tags
    )
    assert not {"src", "href", "onclick", "onload", "xlink:href"} & {name for name, _ in parsed.attributes}
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page


def test_every_text_of_the_report_is_escaped(report: dict[str, Any]) -> None:
    """Merchants and sources may call themselves what they like."""
    report["warnings"].append(EVIL)
    report["models"][EVIL] = report["models"]["ials"]
    report["plan"][0]["stage"] = report["curves"]["learning"][0]["stage"] = EVIL
    page = to_html(report)
    assert "<script" not in page and _Page(page).text.count(EVIL) >= 5
    assert page.count("&lt;script&gt;") >= 6


def test_the_page_says_what_is_promised_to_whom_and_with_what_data(report: dict[str, Any]) -> None:
    """Label, epsilon, delta, unit, trust, the factor e^3 and every further privacy entry are there in words."""
    text = " ".join(_Page(to_html(report)).text.split())
    for words in (
        "Data: simulated (published as simulated)",
        "not how people shop",
        "Every shopper is protected by differential privacy with epsilon = 3 and delta = 0.0001",
        "1 in 10,000",
        "central. Participants send bounded sums",
        "epsilon = 20.09",
        "epsilon of a shopper at several merchants",
        "One merchant was too small.",
        "2.50 times popularity and 0.62 times the same federation without noise",
        "0.0500 0.0450 – 0.0550",
        "1 min 35 s",
        "2.00 GiB",
        "c0ffee",
    ):
        assert words in text, words
    assert "UNPROTECTED" not in text


def test_noise_in_shares_is_told_with_what_holds_if_some_add_none(report: dict[str, Any]) -> None:
    """One sentence with the worst stated case in page and terminal, and all cases among the facts of the page."""
    stated: list[dict[str, Any]] = [{"participants": 0, "epsilon": 3.0}, {"participants": 1, "epsilon": 3.25}]
    stated += [{"participants": 4, "epsilon": None}]
    report["privacy"] |= {"trust": "distributed", "if_silent": stated}
    report["privacy"] |= {"minimum_cohort": 4, "most_participants": 12}
    text = " ".join(_Page(to_html(report)).text.split())
    assert "distributed. Every participant adds a share of the noise" in text
    worst = "If 4 participants lie and add no noise, nothing is promised."
    assert worst in text and worst in " ".join(_printed(report).split())
    assert "0 of 12: epsilon 3; 1 of 12: epsilon 3.25; 4 of 12: epsilon without bound" in text
    assert "noise is calibrated for 4" in text
    stated[-1]["epsilon"] = 9.5
    assert "If 4 participants lie and add no noise, it is 9.5." in to_html(report)
    report["privacy"]["trust"] = "central"
    del report["privacy"]["if_silent"]
    assert "add no noise" not in to_html(report)


def test_a_run_without_noise_says_so_loudly_everywhere(report: dict[str, Any], tmp_path: Path) -> None:
    """The warning comes first in file, page and terminal, and nothing is called private."""
    report["privacy"] |= {"trust": "none", "epsilon": None, "delta": None}
    report["data"]["label"] = "real"
    write(tmp_path, report)
    assert json.loads((tmp_path / "report.json").read_text())["warnings"][0] == UNPROTECTED
    text = _Page((tmp_path / "report.html").read_text()).text
    assert text.index("UNPROTECTED") < text.index("What is promised") < text.index("makes no privacy promise")
    assert "federated, private" not in text and "not how people shop" not in text
    assert _printed(report).index("UNPROTECTED") < _printed(report).index("toy")


def test_charts_are_pictures_with_a_text_alternative(report: dict[str, Any]) -> None:
    """Three SVG elements that an XML parser accepts; the points of the utility chart go from left to right."""
    charts = re.findall(r"<svg.*?</svg>", to_html(report), flags=re.S)
    assert len(charts) == 3
    bars, utility, learning = (ElementTree.fromstring(chart) for chart in charts)
    for chart in (bars, utility, learning):
        assert chart.get("role") == "img" and chart.get("aria-label")
    assert "iALS 0.0900 (0.0810 to 0.0990)" in str(bars.get("aria-label"))
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in utility.iter("circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots) and dots[0][1] > dots[1][1] > dots[2][1]
    halves = (dots[1][0] - dots[0][0]) / (dots[2][0] - dots[0][0])
    assert halves == pytest.approx(0.528, abs=0.005)  # log(3) / log(8)
    assert {"Popularity", "iALS"} <= {text.text for text in utility.iter("text")}
    assert {"gradient 0", "gradient 3"} <= {text.text for text in learning.iter("text")}


def test_bars_are_as_long_as_their_values(report: dict[str, Any]) -> None:
    """The width of each bar is proportional to the mean it shows."""
    chart = ElementTree.fromstring(re.findall(r"<svg.*?</svg>", to_html(report), flags=re.S)[0])
    widths = [float(bar.attrib["width"]) for bar in chart.iter("rect")]
    assert [width / widths[0] for width in widths] == pytest.approx([1.0, 1.6, 1.8, 0.4], abs=0.01)


def test_a_report_of_the_contract_alone_is_enough(report: dict[str, Any]) -> None:
    """Curves, merchants, warnings, plan and configuration may be missing."""
    for key in ("curves", "per_merchant", "warnings", "plan", "config"):
        del report[key]
    text = _Page(to_html(report)).text
    assert "Merchant by merchant" not in text and "How the model learnt" not in text


def test_zero_everywhere_is_still_a_page(report: dict[str, Any]) -> None:
    """A model that never hits has bars and lines of height zero."""
    report["models"] = {"two_tower_private": {"ndcg@10": {"mean": 0.0, "low": 0.0, "high": 0.0}}}
    report["curves"] = {"utility_epsilon": [{"epsilon": 1, "metric": "ndcg@10", "value": 0}]}
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", to_html(report), flags=re.S)).lower()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.label", "", "data.label is ''"),
        ("data.shoppers", 1.5, "whole number"),
        ("data.items", -1, "at least 0"),
        ("privacy.unit", "event", "expected 'shopper'"),
        ("privacy.trust", "full", "one of central, local"),
        ("privacy.epsilon", None, "privacy.epsilon is None"),
        ("privacy.epsilon", float("inf"), "finite number"),
        ("privacy.delta", 1.0, "between 0 and 1"),
        ("privacy.rounds", True, "whole number"),
        ("models", {}, "at least one model"),
        ("models.ials", {}, "object of metrics"),
        ("models.ials.ndgc@10", {"mean": 0, "low": 0, "high": 0}, "metric name like"),
        ("models.ials.auc", 0.5, "models.ials.auc is 0.5"),
        ("models.ials.auc", {"mean": 0.5, "low": 0.6, "high": 0.7}, "low <= mean <= high"),
        ("models.ials.auc", {"mean": float("nan"), "low": 0, "high": 1}, "finite number"),
        ("cost.seconds", "90", "finite number"),
        ("version", 1, "not empty"),
        ("curves.utility_epsilon", [{"epsilon": 0, "metric": "auc", "value": 0.5}], "above 0"),
        ("curves.learning", [{"round": 0, "metric": "auc", "value": 0.5}], "lacks stage"),
        ("per_merchant", [{"merchant": "A"}], "lacks items"),
        ("warnings", "one text", "expected a list"),
    ],
)
def test_a_broken_contract_is_refused_before_anything_is_written(
    report: dict[str, Any], tmp_path: Path, path: str, value: object, message: str
) -> None:
    """The message names the place and what belongs there."""
    *folders, last = path.split(".")
    part = report
    for folder in folders:
        part = part[folder]
    part[last] = value
    with pytest.raises(ReportError, match=re.escape(message)):
        write(tmp_path, report)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "section", ["data", "privacy", "models", "cost", "version", "config_hash", "model_hash"]
)
def test_no_part_of_the_contract_may_be_missing(report: dict[str, Any], section: str) -> None:
    """Nor any word inside a section."""
    whole = copy.deepcopy(report)
    del whole[section]
    with pytest.raises(ReportError, match=f"lacks {section}"):
        validate(whole)
    if section in {"privacy", "cost"}:
        for key in list(report[section])[:4]:
            part = copy.deepcopy(report)
            del part[section][key]
            with pytest.raises(ReportError, match=f"{section} lacks {key}"):
                validate(part)


def test_an_epsilon_without_noise_is_a_false_promise(report: dict[str, Any]) -> None:
    """Trust `none` with a number for epsilon is refused."""
    report["privacy"]["trust"] = "none"
    with pytest.raises(ReportError, match="promises nothing"):
        validate(report)


def _printed(report: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(render(report))
    return console.export_text()


def test_the_terminal_shows_the_short_version(report: dict[str, Any]) -> None:
    """Label, promise, warning, models with intervals and cost, in 80 columns, nothing read as markup."""
    report["data"]["name"] = EVIL
    lines = _printed(report)
    text = " ".join(lines.split())
    for words in (
        "simulated (published as simulated)",
        "epsilon = 3",
        "too small",
        "0.0500 ±0.0050",
        "17,000",
    ):
        assert words in text, words
    assert EVIL in text and max(len(line) for line in lines.splitlines()) <= 80


def test_numbers_are_written_for_people() -> None:
    """Thousands, units and names."""
    assert [number(x) for x in (1234567, 0.00012345, 8.0, None, True, [1, 2])] == [
        "1,234,567",
        "0.0001234",
        "8",
        "none",
        "yes",
        "1, 2",
    ]
    assert (size(512), size(5 * 2**20), size(3 * 2**29)) == ("512 bytes", "5 MiB", "1.50 GiB")
    assert (duration(12.34), duration(125.9)) == ("12.3 s", "2 min 5 s")
    assert metric_title("ndcg@10") == "NDCG@10" and metric_title("coverage@5") == "Coverage@5"
    assert metric_title("sampled99_auc") == "AUC (against 99 drawn items)"
