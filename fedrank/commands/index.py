"""`fedrank index`: prepare what an endpoint opens, or look whether it is whole."""

from __future__ import annotations

import json
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from fedrank.exits import DATA
from fedrank.signatures import UnsignedOption

HELP = "Prepare what an endpoint opens at its start, or look whether it is whole."

Run = Annotated[Path, typer.Option("--run", help="The run folder that is served.")]
Merchant = Annotated[
    str | None, typer.Option("--merchant", help="Only this merchant's part of the catalogue.")
]
Version = Annotated[str | None, typer.Option("--version", help="A model version; else the promoted one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.callback()
def index() -> None:
    """Prepare what an endpoint opens at its start, or look whether it is whole."""


@app.command()
def build(
    run: Run,
    merchant: Merchant = None,
    version: Version = None,
    unsigned: UnsignedOption = False,
    as_json: AsJson = False,
) -> None:
    """Make the prepared folder and the vector index, unless they are there; `fedrank serve` would do the same."""
    from server.registry import Registry
    from server.serving.snapshot_source import SnapshotSource

    began = time.perf_counter()
    import_module("server.serving.engine")  # compiles its loops, where no machine code is kept yet
    registry = Registry(run / "registry", unsigned=unsigned)
    source = SnapshotSource(registry, run / "catalogue.parquet", merchant_id=merchant, version=version)
    snapshot = source.snapshot(source.state())
    seconds, items, recall = time.perf_counter() - began, len(snapshot.items), snapshot.index.recall
    found = {
        "model_version": snapshot.version,
        "items": items,
        "exact": snapshot.index.exact,
        "recall": recall,
    }
    if as_json:
        typer.echo(json.dumps(found | {"seconds": seconds}))
        return
    how = (
        "every item is compared" if snapshot.index.exact else f"the index finds {recall:.3f} of the best 100"
    )
    typer.echo(f"model {snapshot.version}, {items} items, {how}; ready after {seconds:.1f} s")


@app.command()
def check(run: Run, as_json: AsJson = False) -> None:
    """Read every prepared folder and compare it with its manifest; exit code 3 where one is not whole.

    A folder that is not whole is made again when it is needed.
    """
    from server.serving.prepared import is_whole
    from server.serving.snapshot_source import FOLDER

    root = run / FOLDER
    folders = [path for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    found = {path.name: is_whole(path) for path in folders}
    if as_json:
        typer.echo(json.dumps({"folders": found}))
    else:
        for name, whole in found.items():
            typer.echo(f"{name} {'whole' if whole else 'NOT WHOLE: it is made again when it is needed'}")
        if not found:
            typer.echo(f"nothing is prepared in {root} yet")
    if not all(found.values()):
        raise typer.Exit(DATA)
