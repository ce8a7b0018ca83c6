"""`fedrank federation`: run a federation from its coordinator's kit, and say how it stands."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrank.commands.federation_start import of_kind
from fedrank.exits import exit_code
from fedrank.printable import printable

if TYPE_CHECKING:
    from deploy.kit import CoordinatorKit
    from fedrank.federation.running import Runner
    from server.coordination.federation_status import FederationStatus
    from server.coordination.status import RunStatus

HELP = "Run a federation from its coordinator's kit, and say how it stands."
WATCH_SECONDS = 1.0

log = logging.getLogger("fedrank.federation")
app = typer.Typer(help=HELP, no_args_is_help=True)

KitArgument = Annotated[
    Path, typer.Argument(metavar="KIT", help="The coordinator's kit, as `fedrank provision` wrote it.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object for each run or look, also where it fails.")
]


@app.command()
def run(
    kit: KitArgument,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Again and again at this distance (UTC), such as 24h; ends with Ctrl-C."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Do one run of the federation, or one every so often; `fedrank coordinator start` must be running.

    A run that a crash cut off goes on where its journal ends. One run goes at a time. The version that a run makes is
    not served before `fedrank promote`.
    """
    with _failing(as_json=as_json):
        runner = _runner(kit)
        if every is None:
            _print_end(runner.run(), as_json=as_json)
            return
        _scheduled(runner, every, as_json=as_json)


@app.command()
def status(
    kit: KitArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Say how far the run is: rounds, cohort, who is missing and why, budget, model versions, the last error."""
    from deploy.kit import CoordinatorKit

    with _failing(as_json=as_json):
        opened = of_kind(kit, CoordinatorKit, "coordinator")
    while True:
        with _failing(as_json=as_json):
            found = _status(opened)
        typer.echo(json.dumps(asdict(found)) if as_json else _page(found))
        if not watch:
            return
        time.sleep(WATCH_SECONDS)
        if not as_json:
            typer.clear()


def _runner(kit: Path) -> Runner:
    from deploy.kit import CoordinatorKit
    from fedrank.federation.running import Runner
    from fedrank.federation.status_page import Progress
    from server.coordination.superlink import SuperLink

    opened = of_kind(kit, CoordinatorKit, "coordinator")
    progress = Progress(lambda line: typer.echo(line, err=True))
    return Runner(kit=opened, link=lambda: SuperLink.open(opened.data), watch=progress)


def _scheduled(runner: Runner, every: str, *, as_json: bool) -> None:
    """Run for ever; a run that fails is told, and the next one comes at its time."""
    from fedrank.federation.running import RunFailed, RunGoing
    from server.coordination.schedule import Schedule, utc_now
    from server.coordination.superlink_files import SuperLinkError

    schedule, last = Schedule.read(every), runner.last_begun()
    while True:
        due = schedule.due(last, utc_now())
        start = due if last is None else due + schedule.late(random.SystemRandom().uniform)
        typer.echo(f"the next run begins at {start.isoformat(timespec='seconds')}", err=True)
        time.sleep(max(0.0, (start - utc_now()).total_seconds()))
        last = due
        try:
            _print_end(runner.run(), as_json=as_json)
        except (RunFailed, RunGoing, SuperLinkError) as failure:
            log.error("%s", failure)
            if as_json:
                _print_failure(failure)


@contextmanager
def _failing(*, as_json: bool) -> Iterator[None]:
    """Print an error that was raised on purpose as an object too, where objects were asked for."""
    try:
        yield
    except Exception as failure:
        if as_json and exit_code(failure) is not None:
            _print_failure(failure)
        raise


def _print_failure(failure: Exception) -> None:
    typer.echo(json.dumps({"error": str(failure), "exit": exit_code(failure)}))


def _status(kit: CoordinatorKit) -> FederationStatus:
    from deploy.run_words import run_words
    from model.catalogue import read_public_items
    from server.coordination.budget import open_account
    from server.coordination.config import FederationConfig
    from server.coordination.federation_status import federation_status

    config = FederationConfig.from_run_config(run_words(kit))
    account = None
    if Path(config.ledger).exists():
        account = open_account(config, read_public_items(config.catalogue))
    return federation_status(config, account, _nodes(kit))


def _nodes(kit: CoordinatorKit) -> dict[str, bool] | None:
    """Return whether each registered node is connected, or None where the SuperLink does not answer."""
    from server.coordination.superlink import SuperLink
    from server.coordination.superlink_files import SuperLinkError

    try:
        with SuperLink.open(kit.data) as superlink:
            return {node.merchant: node.online for node in superlink.nodes()}
    except (SuperLinkError, OSError):
        return None


def _print_end(found: RunStatus, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    how = f"fedrank promote {found.version} --run KIT/data"
    typer.echo(f"model version {found.version}; a merchant serves it after `{how}`")
    for line in found.not_taken:
        typer.echo(printable(f"not taken by {line}"), err=True)


def _page(found: FederationStatus) -> str:
    """Return a status for people."""
    from fedrank.federation.status_page import status_page

    return printable(status_page(found))
