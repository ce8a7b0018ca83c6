"""`fedrank bench`: measure fedrank itself, and hold every figure against its target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation.bench.registry import BENCHES, run_bench
from fedrank.progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from evaluation.bench.registry import Found
    from evaluation.bench.rows import Row

HELP = (
    "Run the bench NAME and print what it measured beside its targets; a missed target is no failure."
    + "".join(f"\n\n{name}: {one.words}" for name, one in BENCHES.items())
)
"""Of the command; typer drops the help of an argument under click 8.5, so the names stand here."""
MET = {None: "-", True: "yes", False: "NO"}

Name = Annotated[str, typer.Argument(metavar="NAME")]
Quick = Annotated[bool, typer.Option("--quick", help="Less work: ends within a minute; targets mean less.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Out = Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the JSON object to this file.")]


def bench(name: Name, quick: Quick = False, as_json: Json = False, out: Out = None) -> None:
    """Run a bench and print what it measured beside its targets; a missed target is a figure, not a failure."""
    if out is not None and not out.parent.is_dir():
        raise typer.BadParameter(f"the folder of {out} is not there; make it first", param_hint="--out")
    with progress() as watch:
        found = run_bench(name, quick=quick, watch=watch)
    line = json.dumps(found.as_dict())
    if out is not None:
        out.write_text(line + "\n", encoding="utf-8")
    if as_json:
        typer.echo(line)
    else:
        _show(found, quick)


def _show(found: Found, quick: bool) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table(found, quick))
    machine = ", ".join(f"{name} {value}" for name, value in found.machine.items())
    console.print(f"{found.seconds:.1f} s on {machine}", soft_wrap=True, markup=False, highlight=False)


def _table(found: Found, quick: bool) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("measure", title=f"Bench {found.bench}{' (quick)' * quick}", title_justify="left")
    for heading in ("value", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("met", no_wrap=True)
    for row in found.rows:
        table.add_row(escape(row.measure), _figure(row.value), _target(row), escape(row.unit), MET[row.met])
    return table


def _target(row: Row) -> str:
    return "-" if row.target is None else f"{'>=' if row.at_least else '<='} {_figure(row.target)}"


def _figure(value: float) -> str:
    """Return a figure with its first four digits, or a large one as a whole number with separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
