"""`fedrank preflight`: whether a kit can do its work on this machine, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedrank.printable import printable_line

MARKS = ("ok  ", "warn", "FAIL")


def preflight(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="A kit, as `fedrank provision` wrote it.")],
    database: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_URL", help="The database, where it is not the kit's own file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Look at everything that a kit's process will need; each line that is not ok names what to do.

    Kit and manifest, certificates, data folder and disk, database, connection, clock and protocol. Exit code 0: all
    is well; 1: warnings; 2: failures.
    """
    from fedrank.federation.preflight import preflight as look

    findings = look(kit, database=database)
    worst = max(finding.level for finding in findings)
    if as_json:
        lines = [
            {"check": one.check, "level": one.level.name.lower(), "found": one.found, "fix": one.fix}
            for one in findings
        ]
        typer.echo(json.dumps({"level": worst.name.lower(), "findings": lines}))
    else:
        for one in findings:
            fix = f"; {one.fix}" if one.fix else ""
            typer.echo(printable_line(f"{MARKS[one.level]} {one.check}: {one.found}{fix}"))
    raise typer.Exit(int(worst))
