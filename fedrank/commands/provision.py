"""`fedrank provision`: from one description of a federation to one kit for everybody in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

KEEP = (
    "authority/ can make any participant: keep it offline. Each other folder goes to its owner alone; where it holds "
    "a .key file, over a way that nobody else can read."
)


def provision(
    federation: Annotated[
        Path, typer.Argument(help="federation.toml; see docs/deployment.md.", exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to make the kits in; it must not be there yet.")],
    csr: Annotated[
        bool, typer.Option("--csr", help="Let every merchant make its private key at its own site.")
    ] = False,
) -> None:
    """Make the kits of a federation: authority, coordinator, one per merchant and one per ranking endpoint.

    Prints the folders. Nothing is written where the description or a catalogue cannot be used.
    """
    from deploy.federation_file import read_federation
    from deploy.provisioning import provision as provision_kits

    described = read_federation(federation)
    kits = provision_kits(described.with_keys_at_site() if csr else described, out, datetime.now(UTC))
    for folder in (kits.authority, *kits.all()):
        typer.echo(folder)
    typer.echo(KEEP, err=True)
