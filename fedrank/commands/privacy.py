"""`fedrank privacy`: what shoppers' privacy has been spent on, and what one merchant's releases may cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrank.places import KeysOption, LedgerOption, Places, RunOption, places

if TYPE_CHECKING:
    from privacy.ledger import Ledger

app = typer.Typer(help="Look at the privacy budget and bound a merchant's.", no_args_is_help=True)


def _epsilon(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"epsilon is {value}; it must be positive and finite, for example 8")
    return value


def _delta(value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"delta is {value}; it must lie between 0 and 1, for example 1e-6")
    return value


DeltaOption = Annotated[
    float | None,
    typer.Option(callback=_delta, help="The delta at which epsilon is stated (default: that of the run)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def budget(
    ledger: LedgerOption = None,
    run: RunOption = None,
    keys: KeysOption = None,
    epsilon: Annotated[
        float | None,
        typer.Option(callback=_epsilon, help="The budget granted to a shopper: show what is left of it."),
    ] = None,
    delta: DeltaOption = None,
    merchant: Annotated[str | None, typer.Option(help="Only this holder: a merchant id, or devices.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show for each holder how much privacy its shoppers have spent, on which releases, and its quota.

    A holder keeps shoppers' events: a merchant, or the devices. Budget is spent when it is reserved, whether or not
    the release was completed. The keyring that goes with the ledger tells whether this is the newest state of it;
    it lies in the folder keys beside it unless --keys names another.
    """
    from fedrank.budget_report import budget_report

    where, stated_delta = _where(ledger, run, keys), _delta_of(delta, run)
    with _ledger(where) as (opened, shown_as):
        report = budget_report(opened, shown_as, stated_delta, epsilon, merchant)
        if merchant is not None:
            _warn_of_stranger(opened, merchant)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report)


@app.command()
def quota(
    merchant: Annotated[str, typer.Argument(help="The holder: a merchant id, or devices.")],
    epsilon: Annotated[
        float | None, typer.Option(callback=_epsilon, help="What all its releases may cost together.")
    ] = None,
    delta: DeltaOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Leave only the shoppers' cap.")] = False,
    ledger: LedgerOption = None,
    run: RunOption = None,
    keys: KeysOption = None,
    as_json: AsJson = False,
) -> None:
    """Bound what all releases of one merchant may cost together, whichever of its shoppers pay for them.

    What they have cost before counts. A release that would pass the quota is refused before anything is charged.
    Shoppers' own cap holds with or without a quota.
    """
    if (epsilon is None) is not remove:
        raise typer.BadParameter("give either --epsilon EPSILON or --remove")
    where = _where(ledger, run, keys)
    stated_delta = 0.0 if epsilon is None else _delta_of(delta, run)
    with _ledger(where) as (opened, _):
        _warn_of_stranger(opened, merchant)
        found = _changed(opened, merchant, epsilon, stated_delta)
    typer.echo(json.dumps(found) if as_json else _sentence(found))


def _warn_of_stranger(ledger: Ledger, merchant: str) -> None:
    known = [statement.holder for statement in ledger.statement()]
    if merchant not in known:
        typer.echo(
            f"warning: nothing was ever charged to {merchant!r}; the ledger knows: {', '.join(known) or 'nobody'}",
            err=True,
        )


def _changed(ledger: Ledger, merchant: str, epsilon: float | None, delta: float) -> dict[str, Any]:
    from fedrank.budget_report import quota_words
    from privacy.accountant import mu_of

    if epsilon is None:
        return {"merchant": merchant, "removed": ledger.remove_quota(merchant), "quota": None}
    words = quota_words(ledger.set_quota(merchant, mu_of(epsilon, delta) ** 2), delta)
    return {"merchant": merchant, "removed": False, "delta": delta, "quota": words}


def _sentence(found: dict[str, Any]) -> str:
    merchant, words = found["merchant"], found["quota"]
    if words is None:
        return f"{merchant} has no quota{' any more' if found['removed'] else ', and had none'}."
    return (
        f"All releases of {merchant} may cost epsilon {words['epsilon']:.4g} at delta {found['delta']:.3g} together; "
        f"{words['spent_epsilon']:.4g} is spent, {words['left_epsilon']:.4g} is left."
    )


def _where(ledger: str | None, run: Path | None, keys: Path | None) -> Places:
    if ledger is None and run is None:
        raise typer.BadParameter("say which ledger: --run RUN_FOLDER, or --ledger PATH_OR_URL")
    return places(run, None, keys, ledger)


@contextmanager
def _ledger(where: Places) -> Iterator[tuple[Ledger, str]]:
    """Open the ledger that the options name with its keyring; give it and its place for people."""
    from privacy.database import database_url, shown
    from privacy.keyring import Keyring
    from privacy.ledger import Ledger
    from privacy.ledger_place import keys_folder

    folder = where.keys if where.run or where.named_keys else keys_folder(where.ledger)
    with (
        closing(Keyring.open(folder, create=False)) as keyring,
        closing(Ledger.open(where.ledger, keyring, create=False)) as opened,
    ):
        yield opened, shown(database_url(where.ledger))


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


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    from fedrank.budget_table import facts, render_budget

    console = Console()
    console.print(facts(report), soft_wrap=True)
    console.print(render_budget(report))
