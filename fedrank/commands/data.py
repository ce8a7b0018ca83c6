"""`fedrank data check`: look at events before anything is trained on them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from simulation.data import CheckReport

DEFAULT_REJECTED = Path("rejected-rows.csv")

app = typer.Typer(help="Look at shopping data before they are used.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at shopping data before they are used."""


@app.command("check")
def check_data(
    path: Annotated[Path, typer.Argument(help="Folder or file of events: CSV, CSV.gz, Parquet, RecBole.")],
    mapping: Annotated[
        Path | None,
        typer.Option(help="TOML file that maps files, columns and kinds (see fedrank-data.toml)."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Map a column, as in user_id=customer or items.title=product; may be repeated."),
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option(
            help=f"Write rejected rows to this CSV file (default {DEFAULT_REJECTED}, if there are any)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Report rows, shoppers, items, kinds, time span, duplicates, missing values, outliers, age and rejected rows.

    PATH is a folder or a file of events (CSV, CSV.gz, Parquet, RecBole). A rejected row is written to a file as
    file, line, column and reason; the row itself is not written.
    """
    from simulation.data import check, find_mapping

    found = find_mapping(path, file=mapping, columns=column or ())
    report = check(path, found, now=datetime.now(UTC))
    written = _write_rejected(report, rejected)
    if as_json:
        typer.echo(
            json.dumps({**report.to_json(), "rejected_file": None if written is None else str(written)})
        )
    else:
        _print_report(report, written)


def _write_rejected(report: CheckReport, wanted: Path | None) -> Path | None:
    """Write the file where it is asked for (even if nothing was rejected) or needed; return its path."""
    from simulation.data.rejections import write_rejections

    if wanted is None and not report.rejected_rows:
        return None
    path = wanted or DEFAULT_REJECTED
    write_rejections(report.rejections, path)
    return path


def _print_report(report: CheckReport, written: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(_facts(report))
    if report.rejected:
        console.print(_reasons(report))
    if written is not None:
        console.print(f"Rejected rows, by line and reason: {escape(str(written))}", soft_wrap=True)


def _facts(report: CheckReport) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{escape(report.name)} ({report.label})", title_justify="left", show_header=False)
    for name, value in _rows(report):
        table.add_row(name, escape(value))
    return table


def _rows(report: CheckReport) -> list[tuple[str, str]]:
    """The report as (name, words)."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.kinds.items())
    missing = ", ".join(f"{name} {count:,}" for name, count in report.missing.items() if count)
    return [
        ("source", report.source),
        ("files", ", ".join(report.files.values()) + f" (layout: {report.layout})"),
        ("rows", f"{report.rows:,} read, {report.events:,} usable"),
        ("rejected rows", f"{report.rejected_rows:,} (all files)"),
        ("filtered rows", f"{report.filtered_rows:,}"),
        ("given test", f"{report.test_events:,} events"),
        ("shoppers", f"{report.shoppers:,}"),
        ("items", f"{report.items:,} with events, {report.catalogue_items:,} in the catalogue"),
        ("items without details", f"{report.items_without_details:,}"),
        ("merchants", f"{report.merchants:,} ({report.merchants_from})"),
        ("kinds", f"{kinds} ({report.kinds_from})"),
        ("time", _time(report)),
        ("exact duplicates", f"{report.duplicates:,} (kept)"),
        ("missing values", missing or "none"),
        ("outliers", _outliers(report)),
        ("unused columns", ", ".join(report.unused_columns) or "none"),
    ]


def _time(report: CheckReport) -> str:
    if report.staleness is None or report.oldest is None:
        return f"no calendar time (clock: {report.clock})"
    age = f"newest event {report.staleness.newest_age_days:,.0f} days old"
    future = (
        f", {report.staleness.future_rows:,} events in the future" if report.staleness.future_rows else ""
    )
    return f"{report.oldest} to {report.newest} (clock: {report.clock}); {age}{future}"


def _outliers(report: CheckReport) -> str:
    """Outliers per column with their bounds, and the rule."""
    if not report.outliers:
        return "no quantity, no price"
    found = "; ".join(
        f"{one.column}: {one.rows:,} outside {one.low:.3g} to {one.high:.3g}, {one.zeros:,} zeros"
        for one in report.outliers
    )
    return f"{found}. Rule: {report.outlier_rule}"


def _reasons(report: CheckReport) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("file", "column", "reason", "rows", title="Rejected rows", title_justify="left")
    for one in report.rejected:
        table.add_row(escape(one.file), escape(one.column or "whole row"), one.reason, f"{one.rows:,}")
    return table
