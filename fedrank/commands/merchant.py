"""`fedrank merchant`: what a merchant does at its own site, and how it comes into a federation and leaves it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrank.commands.federation_start import JsonOption, announcing, logging_children, of_kind

if TYPE_CHECKING:
    from fedrank.federation.loading import Loading

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

    Prints `ready merchant COORDINATOR` when the coordinator has let the node in. Connections go out alone; nothing
    listens.
    """
    from deploy.kit import MerchantKit
    from fedrank.federation.exclusive import alone
    from fedrank.federation.merchant import merchant_services
    from fedrank.federation.supervisor import Supervisor

    opened = of_kind(kit, MerchantKit, "merchant")
    opened.lay_out_data()
    verbose = logging_children()
    facts = {"merchant": opened.merchant, "coordinator": str(opened.address)}
    with alone(opened):
        services = merchant_services(opened, verbose=verbose)
        Supervisor(services, announcing("merchant", facts, as_json=as_json)).run()


@app.command()
def load(
    kit: MerchantKitArgument,
    data: Annotated[
        Path, typer.Option(help="Folder or file of events: CSV, CSV.gz, Parquet, RecBole.", exists=True)
    ],
    mapping: Annotated[
        Path | None,
        typer.Option(help="TOML file that maps files, columns and kinds (see fedrank-data.toml)."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Map a column, as in user_id=customer; may be repeated."),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(
            metavar="ORIGIN",
            help="Record that these shoppers allow training and profiles, and where they said so; "
            "without it their events are kept and used for nothing.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Put the merchant's events into its own encrypted store. Loading them again stores nothing twice.

    Events at items that are not this merchant's in the federation's catalogue are left out with a warning; a file
    that holds no others is refused. `--consent` counts for
    shoppers who have decided nothing yet; a withdrawal is never overridden.
    """
    from deploy.kit import MerchantKit
    from fedrank.federation import loading
    from fedrank.progress import progress
    from simulation.data import find_mapping

    opened = of_kind(kit, MerchantKit, "merchant")
    found = find_mapping(data, file=mapping, columns=column or ())
    with progress() as watch:
        done = loading.load_file(opened, data, found, consent, watch)
    typer.echo(json.dumps(asdict(done)) if as_json else _told(done, consent))
    if done.elsewhere:
        read = done.stored + done.known + done.elsewhere
        typer.echo(
            f"warning: {done.elsewhere:,} of {read:,} events are at items that are not {done.merchant}'s in the "
            "federation's catalogue; they were left out",
            err=True,
        )


def _told(done: Loading, consent: str | None) -> str:
    lines = [
        f"{done.merchant}: {done.stored:,} events of {done.shoppers:,} shoppers stored; {done.known:,} were there",
        f"left out: {done.rejected:,} rows that are no events",
        f"consent recorded for {done.consents:,} shoppers"
        if consent
        else "consent: none recorded; until shoppers grant it (--consent, `fedrank consent grant`) nothing is used",
    ]
    return "\n".join(lines)
