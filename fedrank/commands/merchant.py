"""`fedrank merchant`: what a merchant does at its own site, and how it comes into a federation and leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedrank.commands.federation_start import JsonOption, announcing, logging_children, of_kind

app = typer.Typer(
    help="A merchant's node of a federation: start it, load its events; invite, approve, revoke.",
    no_args_is_help=True,
)

MerchantKitArgument = Annotated[
    Path, typer.Argument(metavar="KIT", help="The merchant's kit, as `fedrank provision` wrote it.")
]


@app.command()
def start(kit: MerchantKitArgument, as_json: JsonOption = False) -> None:
    """Take part in the federation's rounds until SIGTERM or Ctrl-C.

    Prints `ready merchant ID` when the coordinator has let the node in. Connections go out alone: nothing listens but
    one port of this machine's loopback address.
    """
    from deploy.kit import MerchantKit
    from fedrank.federation.merchant import MerchantPlan
    from fedrank.federation.supervisor import Supervisor

    opened = of_kind(kit, MerchantKit, "merchant")
    opened.lay_out_data()
    verbose = logging_children()
    facts = {"merchant": opened.merchant, "coordinator": str(opened.address)}
    Supervisor(MerchantPlan(opened, verbose=verbose), announcing("merchant", facts, as_json=as_json)).run()
