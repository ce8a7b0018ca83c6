"""`fedrank catalogue`: change what a running endpoint offers, without a training and without a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.serving.catalogue_edits import CatalogueEdits

HELP = "Change what a running endpoint offers: items that come and go, stock, promotions."

Run = Annotated[Path, typer.Option("--run", help="The run folder that is served.")]
Items = Annotated[list[str], typer.Argument(metavar="ITEM_ID...", help="Ids of items of the catalogue.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A parquet file; of items also a CSV file.")]
There = Annotated[bool, typer.Option("--in/--out", help="Whether the items are in stock.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.callback()
def catalogue() -> None:
    """Change what a running endpoint offers: items that come and go, stock, promotions."""


@app.command()
def add(file: File, run: Run, as_json: AsJson = False) -> None:
    """Add items. They are ranked by their content until the next training; endpoints take them within seconds."""
    _tell(_edits(run).add(file), as_json)


@app.command()
def remove(ids: Items, run: Run, as_json: AsJson = False) -> None:
    """Take items out. Endpoints list them no more; a shopper's history may still name them."""
    _tell(_edits(run).remove(ids), as_json)


@app.command()
def stock(ids: Items, run: Run, there: There, as_json: AsJson = False) -> None:
    """Say that items are in stock or out of stock; only items in stock are listed."""
    _tell(_edits(run).stock(ids, there=there), as_json)


@app.command()
def promotions(file: File, run: Run, as_json: AsJson = False) -> None:
    """Take a file of promotions and coupons in place of the one that counts now."""
    known = _edits(run).promotions(file)
    typer.echo(
        json.dumps({"promotions": known}) if as_json else f"{known} promotions of items of the catalogue"
    )


def _edits(run: Path) -> CatalogueEdits:
    from server.serving.catalogue_edits import CatalogueEdits

    return CatalogueEdits(run)


def _tell(number: int, as_json: bool) -> None:
    typer.echo(json.dumps({"change": number}) if as_json else f"change {number} of the catalogue is written")
