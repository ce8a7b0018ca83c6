"""`fedrank merchant`: what a merchant does at its own site, and how it comes into a federation and leaves it."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="A merchant's node of a federation: start it, load its events; invite, approve, revoke.",
    no_args_is_help=True,
)
