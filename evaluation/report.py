"""The report of a run: one file for machines, one page for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from evaluation.report_contract import validate, warnings_of
from evaluation.report_view import view_of

JSON_NAME = "report.json"
HTML_NAME = "report.html"


def write(run_folder: Path, report: Mapping[str, Any]) -> None:
    """Validate a report and write `report.json` and `report.html` into the run folder, each in one move.

    Beyond the contract the report may hold `curves` (`utility_epsilon`, `learning`), `per_merchant`, `warnings`,
    `plan` and `config`. The warning of an unprotected run is added where it is missing. Raises ReportError before
    anything is written.
    """
    validate(report)
    complete = {**report, "warnings": warnings_of(report)}
    text = json.dumps(complete, indent=2, ensure_ascii=False, allow_nan=False)
    page = to_html(complete)
    run_folder.mkdir(parents=True, exist_ok=True)
    _replace(run_folder / JSON_NAME, text + "\n")
    _replace(run_folder / HTML_NAME, page)


def to_html(report: Mapping[str, Any]) -> str:
    """The page: self-contained, every text of the report escaped. Raises ReportError."""
    validate(report)
    environment = Environment(
        loader=PackageLoader("evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(view_of(report))


def _replace(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
