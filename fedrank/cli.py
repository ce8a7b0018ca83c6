"""The command `fedrank`: words in, rooms called, results out. Heavy libraries load only where they are used."""

from __future__ import annotations

import logging
import os
import sys

import typer

from fedrank import __version__
from fedrank.commands import (
    catalogue,
    certificates,
    consent,
    coordinator,
    data,
    db,
    federation,
    index,
    keys,
    merchant,
    merchant_membership,
    models,
    privacy,
    subject,
)
from fedrank.commands.bench import HELP, bench
from fedrank.commands.preflight import preflight
from fedrank.commands.provision import provision
from fedrank.commands.rank import rank
from fedrank.commands.retention import retention
from fedrank.commands.serve import serve
from fedrank.commands.simulate import simulate
from fedrank.exits import reporting
from server.serving.limits import TLS_1_3_ONLY

app = typer.Typer(
    name="fedrank",
    help="Federated, privacy-preserving recommendations: simulate a federation, serve rankings, ask for one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could show events
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(subject.app, name="subject")
app.add_typer(consent.app, name="consent")
app.add_typer(privacy.app, name="privacy")
app.add_typer(db.app, name="db")
app.add_typer(keys.app, name="keys")
app.add_typer(certificates.app, name="certificates")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.add_typer(coordinator.app, name="coordinator")
merchant_membership.add_to(merchant.app)
app.add_typer(merchant.app, name="merchant")
app.add_typer(federation.app, name="federation")
app.command()(simulate)
app.command()(provision)
app.command()(preflight)
app.command()(models.promote)
app.command()(models.rollback)
app.command()(serve)
app.command()(rank)
app.command()(retention)
app.command(help=HELP)(bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
    ),
    verbose: bool = typer.Option(False, "--verbose", help="Log progress of rounds and endpoints."),
) -> None:
    """Set up logging for all commands."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )


def main() -> None:
    """Run the command; an error that fedrank raises on purpose is one line and a documented exit code."""
    for name in ("FLWR_TELEMETRY_ENABLED", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "0" if name.startswith("FLWR") else "1")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    os.environ.setdefault(*TLS_1_3_ONLY)
    reporting(app)
