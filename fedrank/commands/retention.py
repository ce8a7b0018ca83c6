"""`fedrank retention`: events older than an age are deleted."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from typing import Annotated

import typer

from fedrank.places import HolderOption, KeysOption, Places, RunOption, StoreOption, holders_of, places

SECONDS = {"h": 3_600, "d": 86_400, "w": 604_800}
CALENDARS = (None, "seconds", "days")
"""Clocks of data whose timestamps are seconds since 1970; a store outside a run folder is a live one."""

OlderThan = Annotated[str, typer.Option(metavar="AGE", help="Age in hours, days or weeks: 36h, 400d, 52w.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would be deleted, and delete nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def retention(
    older_than: OlderThan,
    run: RunOption = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    holder: HolderOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete events older than an age, by their own time; rankings and events go on meanwhile.

    Earlier copies of the database can still be read with the keys of today: `fedrank keys rotate --layer data`
    ends that.
    """
    from client.store_retention import expire

    found, before = places(run, store, keys), int(time.time()) - _seconds(older_than)
    _check_clock(found)
    done = {}
    with found.keyring() as keyring:
        for one in holders_of(keyring, holder):
            with found.event_store(keyring, one) as events:
                done[one] = asdict(expire(events.access, before, dry_run=dry_run))
    if as_json:
        typer.echo(json.dumps({"before": before, "dry_run": dry_run, "holders": done}))
        return
    verb = "would be deleted" if dry_run else "deleted"
    for one, counts in done.items():
        broken = f"; {counts['unreadable']} rows do not open" if counts["unreadable"] else ""
        typer.echo(f"{one}: {counts['events']} events older than {older_than} {verb}{broken}")


def _seconds(age: str) -> int:
    """Return an age in seconds; `typer.BadParameter` if it is not a positive number with a unit."""
    parts = re.fullmatch(r"([1-9]\d{0,6})([hdw])", age)
    if parts is None:
        raise typer.BadParameter(
            f"{age!r} is no age; give a number and h, d or w: 36h, 400d, 52w", param_hint="--older-than"
        )
    return int(parts[1]) * SECONDS[parts[2]]


def _check_clock(found: Places) -> None:
    clock = found.reported("data", "clock")
    if clock not in CALENDARS:
        raise typer.BadParameter(
            f"the data of this run have the clock {clock!r}, so no event has an age; retention needs timestamps",
            param_hint="--older-than",
        )
