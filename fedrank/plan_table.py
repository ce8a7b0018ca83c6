"""A privacy plan as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def render_plan(plan: dict[str, Any]) -> RenderableType:
    """Return what `evaluation.planning.planned` found, as something that `rich` can print."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(_facts(plan)), _table(plan["stages"]), Text(_guarantee(plan)))


def _facts(plan: dict[str, Any]) -> str:
    return (
        f"Plan for {plan['data']}: {plan['shoppers']:,} shoppers, {plan['items']:,} items; "
        f"{plan['taking_part']:,} participants ({plan['participants']}), trust {plan['trust']}, "
        f"minimum cohort {plan['minimum_cohort']:,}"
    )


def _guarantee(plan: dict[str, Any]) -> str:
    """Return what all stages together cost; nothing has been charged yet."""
    from evaluation.report_contract import UNPROTECTED

    if plan["epsilon"] is None:
        return UNPROTECTED
    return (
        f"Together: epsilon {plan['total_epsilon']:.4g} at delta {plan['delta']:.3g} after this run, of which "
        f"{plan['spent_epsilon']:.4g} is spent already; the budget is {plan['epsilon']:g}. Nothing was charged."
    )


def _table(stages: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("stage")
    for heading in (
        "releases",
        "clipping norm",
        "noise / norm",
        "share of mu^2",
        "epsilon alone",
        "head items",
    ):
        table.add_column(heading, justify="right")
    for one in stages:
        table.add_row(
            one["stage"],
            f"{one['releases']:,}",
            f"{one['clipping_norm']:.4g}",
            _figure(one["noise_multiplier"], ".4g"),
            _figure(one["share"], ".1%"),
            _figure(one["epsilon_alone"], ".4g"),
            _figure(one["head_items"], ","),
        )
    return table


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
