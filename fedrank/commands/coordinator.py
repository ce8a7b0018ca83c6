"""`fedrank coordinator`: run the coordinator of a federation from its kit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedrank.commands.federation_start import JsonOption, announcing, logging_children, of_kind

HELP = "Run the coordinator of a federation."

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.callback()
def coordinator() -> None:
    """Run the coordinator of a federation."""


@app.command()
def start(
    kit: Annotated[Path, typer.Argument(help="The coordinator's kit, as `fedrank provision` wrote it.")],
    listen: Annotated[
        str | None,
        typer.Option(help="Address to listen at; default: all, or loopback where merchants reach it there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve merchants' nodes and run what is submitted, until SIGTERM or Ctrl-C.

    Prints `ready coordinator FEDERATION ADDRESS` when nodes can connect. Three processes do the work: Flower's
    SuperLink, reachable from this machine alone; a proxy that lets members in over TLS 1.3; an executor that runs the
    installed app.
    """
    from deploy.kit import CoordinatorKit
    from fedrank.federation.coordinator import CoordinatorServices, listening_address
    from fedrank.federation.exclusive import alone, refuse_taken_port
    from fedrank.federation.supervisor import Supervisor

    opened = of_kind(kit, CoordinatorKit, "coordinator")
    opened.lay_out_data()
    address = listening_address(opened, listen)
    verbose = logging_children()
    facts = {"federation": opened.federation.federation, "address": f"{address}:{opened.address.port}"}
    with alone(opened):
        refuse_taken_port(address, opened.address.port)
        services = CoordinatorServices(opened, address, verbose=verbose).all()
        Supervisor(services, announcing("coordinator", facts, as_json=as_json)).run()
