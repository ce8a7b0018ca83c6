"""`fedrank consent`: what shoppers allow. Without a grant their events are kept and used for nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrank.places import HolderOption, KeysOption, Places, RunOption, StoreOption, holders_of, places
from fedrank.shopper_ids import ids_given

if TYPE_CHECKING:
    from client.consent import Decision
    from client.store import EventStore

DOES_NOT_OPEN = "does not open"

app = typer.Typer(help="Record and show what shoppers allow.", no_args_is_help=True)


class PurposeName(StrEnum):
    """What events may be used for."""

    TRAINING = "training"
    PROFILE = "profile"


ShopperIds = Annotated[
    str, typer.Argument(metavar="ID", help="The shopper's id; `-` reads ids from standard input, one a line.")
]
Purposes = Annotated[list[PurposeName], typer.Option("--purpose", help="May be repeated.")]
Origin = Annotated[str, typer.Option(help="Where the decision was made, such as 'settings page'.")]


@app.command()
def grant(
    shopper: ShopperIds,
    purpose: Purposes,
    run: RunOption = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    holder: HolderOption = None,
    origin: Origin = "command line",
) -> None:
    """Record that shoppers allow a holder a use of their events."""
    _record(places(run, store, keys), shopper, purpose, holder, origin, granted=True)


@app.command()
def withdraw(
    shopper: ShopperIds,
    purpose: Purposes,
    run: RunOption = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    holder: HolderOption = None,
    origin: Origin = "command line",
) -> None:
    """Record that shoppers no longer allow a use, wherever they had (or at --holder); it counts from now on."""
    _record(places(run, store, keys), shopper, purpose, holder, origin, granted=False)


@app.command()
def show(
    shopper: ShopperIds,
    run: RunOption = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    holder: HolderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show what a shopper allows at every holder, and when that was decided."""
    (name,) = ids_given(shopper)[:1]
    histories = dict(_at_holders(places(run, store, keys), holder, lambda events: _history(events, name)))
    if as_json:
        typer.echo(
            json.dumps(
                {
                    one: DOES_NOT_OPEN if found is None else [_as_json(decision) for decision in found]
                    for one, found in histories.items()
                }
            )
        )
        return
    for one, found in histories.items():
        if found is None:
            typer.echo(f"{one}: the record {DOES_NOT_OPEN}, so nothing is allowed")
            continue
        for decision in found:
            moment = datetime.fromtimestamp(decision.time, UTC).isoformat()
            word = "granted" if decision.granted else "withdrawn"
            typer.echo(f"{one}: {decision.purpose} {word} {moment} ({decision.origin})")
        if not found:
            typer.echo(f"{one}: nothing was decided, so nothing is allowed")


def _record(
    found: Places,
    shopper: str,
    purposes: list[PurposeName],
    holder: str | None,
    origin: str,
    *,
    granted: bool,
) -> None:
    from client.consent import Purpose

    names, wanted = ids_given(shopper), [Purpose(purpose) for purpose in purposes]

    def record(events: EventStore) -> int:
        from client.store_consent import Consents

        consents = Consents(events.access)
        shoppers = {events.access.keys.pseudonymiser.of(name) for name in names}
        if holder is None and not granted:  # who never allowed a holder anything is not made known to it
            shoppers &= set[str]().union(*(consents.granted(purpose, sorted(shoppers)) for purpose in wanted))
        return consents.record(shoppers, wanted, granted=granted, origin=origin)

    for one, count in _at_holders(found, holder, record, one_only=granted):
        typer.echo(f"{one}: {'granted' if granted else 'withdrawn'} by {count} of {len(names)} shoppers")


def _history(events: EventStore, name: str) -> tuple[Decision, ...] | None:
    """Return a shopper's decisions; None if the record of them does not open."""
    from client.consent import DamagedConsent
    from client.store_consent import Consents

    try:
        return Consents(events.access).history(events.access.keys.pseudonymiser.of(name))
    except DamagedConsent:
        return None


def _at_holders(
    found: Places, holder: str | None, act: Callable[[EventStore], Any], *, one_only: bool = False
) -> list[tuple[str, Any]]:
    """Do something at one holder, or at all of the keyring unless `one_only`."""
    with found.keyring() as keyring:
        wanted = holders_of(keyring, holder)
        if one_only and len(wanted) > 1:
            raise typer.BadParameter(
                f"the keyring has {len(wanted)} holders; say to whom this is granted", param_hint="--holder"
            )
        done = []
        for one in wanted:
            with found.event_store(keyring, one) as events:
                done.append((one, act(events)))
        return done


def _as_json(decision: Decision) -> dict[str, Any]:
    return {
        "purpose": str(decision.purpose),
        "granted": decision.granted,
        "time": decision.time,
        "origin": decision.origin,
    }
