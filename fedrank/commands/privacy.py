"""`fedrank privacy budget`: what every shopper's privacy has been spent on, read from the ledger."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from privacy.ledger_records import ChargeRecord, HolderStatement

app = typer.Typer(help="Look at the privacy budget.", no_args_is_help=True)


@app.callback()
def privacy() -> None:
    """Look at the privacy budget."""


@app.command()
def budget(
    ledger: Annotated[
        str | None, typer.Option(metavar="PATH_OR_URL", help="The ledger: an SQLite file or a database URL.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run folder of `fedrank simulate`, which holds ledger.db.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(min=0, help="The budget granted to a shopper: show what is left of it.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="The delta at which epsilon is stated (default: that of the run).")
    ] = None,
    merchant: Annotated[str | None, typer.Option(help="Only this holder: a merchant id, or devices.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show for each holder how much privacy its shoppers have spent, and on which releases.

    A holder keeps shoppers' events: a merchant, or the devices. Budget is spent when it is reserved, whether or not
    the release was completed.
    """
    place, stated_delta = _ledger_of(ledger, run), _delta_of(delta, run)
    report = _report(place, stated_delta, epsilon, merchant)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print_report(report)


def _ledger_of(ledger: str | None, run: Path | None) -> str:
    if (ledger is None) == (run is None):
        raise typer.BadParameter("give either --ledger PATH_OR_URL or --run RUN_FOLDER")
    if run is None:
        return str(ledger)
    if not (run / "ledger.db").is_file():
        raise typer.BadParameter(
            f"there is no ledger in {run} (ledger.db); give the folder that `fedrank simulate --out` wrote",
            param_hint="--run",
        )
    return str(run / "ledger.db")


def _delta_of(delta: float | None, run: Path | None) -> float:
    if delta is not None:
        return delta
    if run is None:
        raise typer.BadParameter(
            "epsilon is stated at a delta; give one, e.g. --delta 1e-6", param_hint="--delta"
        )
    try:
        return float(json.loads((run / "report.json").read_bytes())["privacy"]["delta"])
    except (OSError, ValueError, KeyError, TypeError):
        raise typer.BadParameter(
            f"{run / 'report.json'} names no delta (is the run complete?); give one, e.g. --delta 1e-6",
            param_hint="--delta",
        ) from None


def _report(place: str, delta: float, epsilon: float | None, merchant: str | None) -> dict[str, Any]:
    from privacy.database import database_url, shown
    from privacy.ledger import Ledger

    ledger = Ledger.open(place, create=False)
    statements = ledger.statement(merchant)
    ledger.close()
    return {
        "ledger": shown(database_url(place)),
        "delta": delta,
        "granted_epsilon": epsilon,
        "holders": [_holder(statement, delta, epsilon) for statement in statements],
    }


def _holder(statement: HolderStatement, delta: float, epsilon: float | None) -> dict[str, Any]:
    from privacy.accountant import epsilon_of

    spent = epsilon_of(math.sqrt(statement.highest_mu2), delta)
    return {
        "holder": statement.holder,
        "shoppers": statement.accounts,
        "highest_mu2": statement.highest_mu2,
        "epsilon": spent,
        "remaining_epsilon": None if epsilon is None else max(0.0, epsilon - spent),
        "charges": [_charge(record) for record in statement.charges],
    }


def _charge(record: ChargeRecord) -> dict[str, Any]:
    charge = record.charge
    return {
        "release_id": charge.release_id,
        "stage": charge.stage,
        "round": charge.round,
        "noise_multiplier": charge.noise_multiplier,
        "clipping_norm": charge.clipping_norm,
        "mu2": charge.mu2,
        "shoppers": record.subjects,
        "state": str(record.state),
        "reserved_at": record.reserved_at,
        "committed_at": record.committed_at,
    }


def _print_report(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(
        f"Ledger {escape(report['ledger'])}; epsilon at delta {report['delta']:.3g}", soft_wrap=True
    )
    if not report["holders"]:
        console.print("Nothing has been spent.")
        return
    console.print(_account_table(report))
    console.print(_charge_table(report))


def _account_table(report: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("holder", title="Highest spending of any shopper", title_justify="left")
    for heading in ("shoppers", "mu^2", "epsilon", "left of the granted"):
        table.add_column(heading, justify="right")
    for holder in report["holders"]:
        left = holder["remaining_epsilon"]
        table.add_row(
            escape(holder["holder"]),
            f"{holder['shoppers']:,}",
            f"{holder['highest_mu2']:.6g}",
            f"{holder['epsilon']:.4f}",
            "-" if left is None else f"{left:.4f} of {report['granted_epsilon']:g}",
        )
    return table


def _charge_table(report: dict[str, Any]) -> Table:
    """Charges in the order of their reservation; neighbours that differ only in their round share a line.

    Noise / norm is the noise multiplier: standard deviation of the noise over the clipping norm.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    title = "Releases that were paid for"
    table = Table("holder", "stage", "rounds", title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("noise / norm", "mu^2 each", "shoppers"):
        table.add_column(heading, justify="right")
    table.add_column("state", no_wrap=True)
    for holder in report["holders"]:
        for _, group in groupby(holder["charges"], key=_alike):
            table.add_row(escape(holder["holder"]), *map(escape, _charge_row(list(group))))
    return table


def _alike(charge: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(charge[name] for name in ("stage", "noise_multiplier", "clipping_norm", "mu2", "state"))


def _charge_row(charges: list[dict[str, Any]]) -> list[str]:
    first, last = charges[0], charges[-1]
    fewest, most = min(one["shoppers"] for one in charges), max(one["shoppers"] for one in charges)
    return [
        first["stage"],
        str(first["round"]) if len(charges) == 1 else f"{first['round']}-{last['round']} ({len(charges)})",
        f"{first['noise_multiplier']:.6g}",
        f"{first['mu2']:.6g}",
        f"{fewest:,}" if fewest == most else f"{fewest:,}-{most:,}",
        first["state"],
    ]
