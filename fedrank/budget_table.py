"""What a ledger holds, as tables for the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


def facts(report: dict[str, Any]) -> Text:
    """Return which ledger a report is about; not to be wrapped."""
    from rich.text import Text

    return Text(f"Ledger {report['ledger']}; epsilon at delta {report['delta']:.3g}")


def render_budget(report: dict[str, Any]) -> RenderableType:
    """Return what `fedrank.budget_report.budget_report` found, as something that `rich` can print."""
    from rich.console import Group
    from rich.text import Text

    if not report["holders"]:
        return Text("Nothing has been spent.")
    return Group(_account_table(report), _charge_table(report))


def _account_table(report: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("holder", title="Highest spending of any shopper", title_justify="left")
    for heading in ("shoppers", "mu^2", "epsilon", "left of the granted", "left of the quota"):
        table.add_column(heading, justify="right")
    for holder in report["holders"]:
        left, quota = holder["remaining_epsilon"], holder["quota"]
        table.add_row(
            escape(holder["holder"]),
            f"{holder['shoppers']:,}",
            f"{holder['highest_mu2']:.6g}",
            f"{holder['epsilon']:.4f}",
            "-" if left is None else f"{left:.4f} of {report['granted_epsilon']:g}",
            "-" if quota is None else f"{quota['left_epsilon']:.4f} of {quota['epsilon']:.4g}",
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
