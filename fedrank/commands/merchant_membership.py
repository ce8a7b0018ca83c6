"""`fedrank merchant invite|request|install|approve|revoke|rotate`: who is in a federation, and with which key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.membership import Operator

Name = Annotated[str, typer.Argument(help="Merchant id.")]
NameOrCoordinator = Annotated[str, typer.Argument(help="Merchant id, or the word coordinator.")]
KitsOption = Annotated[
    Path, typer.Option(help="Folder of all kits, of `fedrank provision`.", exists=True, file_okay=False)
]
KitFolder = Annotated[
    Path, typer.Argument(help="The merchant's kit.", metavar="KIT", exists=True, file_okay=False)
]


def invite(
    name: Name,
    kits: KitsOption,
    catalogue: Annotated[
        Path, typer.Option(help="Its public items, .csv or .parquet.", exists=True, dir_okay=False)
    ],
    shoppers: Annotated[int, typer.Option(help="Public number of its shoppers.")],
    serving: Annotated[
        str | None, typer.Option(help="HOST:PORT of its ranking endpoint, if it wants one.")
    ] = None,
    csr: Annotated[bool, typer.Option("--csr", help="It makes its private key at its own site.")] = False,
) -> None:
    """Add a merchant to a federation: its kit, and terms and items of all kits anew. Prints what to carry where."""
    from deploy.federation_model import Address, KeysMadeBy, Merchant

    merchant = Merchant(
        id=name,
        catalogue=catalogue,
        shoppers=shoppers,
        keys=KeysMadeBy.SITE if csr else KeysMadeBy.OPERATOR,
        serving=None if serving is None else Address.read(serving, "--serving"),
    )
    _print(_operator(kits).invite(merchant, _now()))
    typer.echo("give the new kit to its merchant; replace the others', keys and data excepted", err=True)


def request(kit: KitFolder) -> None:
    """At the merchant's site: make a private key, which never leaves, and a request for the operator to sign."""
    from deploy.site_keys import request

    typer.echo(request(kit))
    typer.echo("send this file to the operator; the key beside it goes to nobody", err=True)


def install(
    kit: KitFolder,
    certificate: Annotated[
        Path, typer.Argument(help="What the operator has sent back.", exists=True, dir_okay=False)
    ],
) -> None:
    """At the merchant's site: check the certificate that the operator has sent, and put it in place with its key."""
    from deploy.site_keys import install

    typer.echo(install(kit, certificate, lambda: _now().timestamp()).certificate)


def approve(
    name: Name,
    kits: KitsOption,
    csr: Annotated[Path, typer.Option(help="The node.csr of the merchant.", exists=True, dir_okay=False)],
) -> None:
    """Sign a merchant's request, once you are sure that it is the merchant's. A former certificate is revoked."""
    from privacy.certificate_requests import LARGEST_REQUEST

    with csr.open("rb") as file:
        content = file.read(LARGEST_REQUEST + 1)
    _print(_operator(kits).approve(name, content, _now()))
    typer.echo("send the certificate to the merchant; copy the others to the coordinator's kit", err=True)


def revoke(name: NameOrCoordinator, kits: KitsOption) -> None:
    """Put a certificate on the revocation list. The coordinator's gets a new one at once."""
    _print(_operator(kits).revoke(name, _now()))
    typer.echo(
        "copy these to where they are used, the coordinator's first: from then on the node is out", err=True
    )


def rotate(name: NameOrCoordinator, kits: KitsOption) -> None:
    """Give a merchant's node or the coordinator a new key and certificate. A merchant's former one is revoked."""
    _print(_operator(kits).rotate(name, _now()))
    typer.echo("copy these to where they are used, and start the processes there anew", err=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `fedrank merchant`."""
    for command in (invite, request, install, approve, revoke, rotate):
        app.command()(command)


def _operator(kits: Path) -> Operator:
    from deploy.membership import Operator

    return Operator.open(kits)


def _now() -> datetime:
    return datetime.now(UTC)


def _print(paths: Iterable[Path]) -> None:
    for path in paths:
        typer.echo(path)
