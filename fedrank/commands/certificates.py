"""`fedrank certificates`: a small authority for the endpoint and its callers, to try out or for one shop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.serving.identity import TRUST_DOMAIN, Identity, Role, check_merchant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.certificate_authority import CertificateAuthority, Wanted

KEEP = (
    "ca.key can make any caller: keep it away from the endpoint, which needs ca.pem and revoked.pem alone. "
    "Give each caller its own pair and ca.pem."
)

Out = Annotated[Path, typer.Option(help="Folder of the authority; made if it is not there.", file_okay=False)]
Server = Annotated[
    list[str] | None,
    typer.Option("--server", help="Name or address of the endpoint, for its certificate. May be repeated."),
]
Merchant = Annotated[str | None, typer.Option(help="Merchant that the callers belong to.")]
Roles = Annotated[
    list[Role] | None, typer.Option("--role", help="What the caller is there for. May be repeated.")
]
Domain = Annotated[str, typer.Option("--trust-domain", help="As in `fedrank serve --trust-domain`.")]
Days = Annotated[int, typer.Option(help="How long the certificates are valid.")]
Renew = Annotated[bool, typer.Option("--renew", help="Put new pairs in the place of those that are there.")]

app = typer.Typer(
    help="Make and revoke certificates of the ranking endpoint and its callers.", no_args_is_help=True
)


@app.command()
def make(
    out: Out,
    server: Server = None,
    merchant: Merchant = None,
    role: Roles = None,
    trust_domain: Domain = TRUST_DOMAIN,
    days: Days = 90,
    renew: Renew = False,
) -> None:
    """Issue certificates, from an authority that is made where the folder holds none.

    Prints the files. Those that are there already stay, unless --renew is given.
    """
    if bool(merchant) != bool(role):
        raise typer.BadParameter("give --merchant and --role together")
    wanted = [*_server(server, days), *_callers(merchant, role or (), trust_domain, days)]
    now = datetime.now(UTC)
    authority = _authority(out, now)
    for path in authority.issue(wanted, now, renew=renew):
        typer.echo(path)
    typer.echo(KEEP, err=True)


@app.command()
def revoke(
    out: Out,
    certificate: Annotated[
        Path, typer.Argument(help="The .pem file of the caller.", exists=True, dir_okay=False)
    ],
) -> None:
    """Put a caller's certificate on the revocation list, which endpoints look at within a second."""
    from privacy.certificate_authority import REVOKED, CertificateAuthority

    count = CertificateAuthority.open(out).revoke(certificate.read_bytes(), datetime.now(UTC))
    typer.echo(f"certificates on the list: {count}")
    typer.echo(f"copy {out / REVOKED} to where the endpoints' --revoked points", err=True)


def _authority(folder: Path, now: datetime) -> CertificateAuthority:
    from privacy.certificate_authority import AUTHORITY, AUTHORITY_KEY, REVOKED, CertificateAuthority

    if CertificateAuthority.is_in(folder):
        return CertificateAuthority.open(folder)
    made = CertificateAuthority.make(folder, now)
    for name in (AUTHORITY, AUTHORITY_KEY, REVOKED):
        typer.echo(folder / name)
    return made


def _server(hosts: Sequence[str] | None, days: int) -> list[Wanted]:
    from privacy.certificate_authority import Wanted

    return [Wanted(name="server", hosts=tuple(hosts), days=days)] if hosts else []


def _callers(merchant: str | None, roles: Sequence[Role], domain: str, days: int) -> list[Wanted]:
    from privacy.certificate_authority import Wanted

    owner = check_merchant(merchant) if merchant else ""
    return [
        Wanted(name=f"{owner}-{role}", uri=Identity(merchant=owner, role=role).uri(domain), days=days)
        for role in dict.fromkeys(roles)
    ]
