"""`fedrank db`: migrate, back up, restore and check a database, be it an SQLite file or on PostgreSQL."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrank.exits import DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privacy.backup_check import Health
    from privacy.keyring import Keyring

NO_KEYS = (
    "It holds no keys: those lie in the keyring, which has to be kept apart (docs/keys.md). "
    "After `fedrank keys rotate` its events cannot be read any more, so make a new one then."
)
HELP = "Migrate, back up, restore and check databases: event stores and ledgers."

Place = Annotated[str, typer.Argument(metavar="PATH_OR_URL", help="An SQLite file or a database URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.callback()
def db() -> None:
    """Migrate, back up, restore and check databases: event stores and ledgers."""


@app.command()
def migrate(
    place: Place,
    to: Annotated[str | None, typer.Option(metavar="REVISION", help="Default: the newest.")] = None,
    discard: Annotated[
        bool,
        typer.Option("--discard", help="Allow the loss of rows that an older revision has no table for."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a database's tables to a revision, up or down, all or nothing.

    Make a backup first: with `fedrank db backup`, and of a keyring's keys.db with `fedrank keys backup`.
    """
    from privacy.database import migrate as take
    from privacy.database import opened, shown
    from privacy.schema import REVISIONS

    target = to or REVISIONS[-1]
    with opened(place) as engine:
        before = take(engine, target, discard=discard)
        where = shown(engine.url)
    if as_json:
        typer.echo(json.dumps({"database": where, "before": before, "revision": target}))
    elif before == target:
        typer.echo(f"{where} is at revision {target} already.")
    else:
        typer.echo(f"{where} went from revision {before or 'none'} to {target}.")


@app.command()
def backup(
    place: Place,
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    as_json: Json = False,
) -> None:
    """Write one consistent state of a database to an SQLite file, while reading and writing go on.

    The file is there, complete and checked, or not at all. It holds no keys.
    """
    from privacy.backup import backup as copy
    from privacy.database import opened

    with opened(place) as engine:
        copied = copy(engine, file, now=datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(asdict(copied)))
    else:
        typer.echo(
            f"{file}: {sum(copied.rows.values()):,} rows of {copied.source}, revision {copied.revision}."
        )
        typer.echo(NO_KEYS)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `fedrank db backup` wrote.")],
    place: Place,
    as_json: Json = False,
) -> None:
    """Copy a backup into an empty or new database of either kind, all or nothing."""
    from privacy.backup import restore as copy
    from privacy.database import opened

    with opened(place, create=True) as engine:
        copied = copy(file, engine)
    if as_json:
        typer.echo(json.dumps(asdict(copied)))
    else:
        rows = sum(copied.rows.values())
        typer.echo(f"{copied.target}: {rows:,} rows of {copied.taken_at}, revision {copied.revision}.")


@app.command("check")
def check_database(
    place: Place,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder of the keyring: open every sealed row and follow the ledger's chain."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look through a database for damage: structure, revision, every table, and with --keys every sealed row.

    Damage is listed by name, and the exit code is 3.
    """
    from privacy.backup_check import check, owners
    from privacy.database import opened

    with opened(place, read_only=True) as engine:
        health = check(engine)
        # What has lost its structure cannot be read row by row.
        rows_opened = keys is not None and not health.damage
        damage = list(health.damage)
        if keys is not None and rows_opened:
            damage += _sealed_damage(place, keys, *owners(engine))
    if as_json:
        typer.echo(json.dumps({**asdict(health), "damage": damage, "sealed_rows_opened": rows_opened}))
    else:
        _print(health, damage, rows_opened=rows_opened)
    if damage:
        raise typer.Exit(DATA)


def _sealed_damage(place: str, folder: Path, holders: list[str], has_ledger: bool) -> Iterator[str]:
    from privacy.errors import KeyringError, LedgerError
    from privacy.keyring import Keyring
    from privacy.ledger import Ledger

    with closing(Keyring.open(folder, create=False)) as keyring:
        for holder in holders:
            yield from (f"holder {holder}: {row}" for row in _damaged_rows(place, keyring, holder))
        if has_ledger:
            try:
                Ledger.open(
                    place, keyring, create=False
                ).close()  # opening checks the whole chain and all sums
            except (LedgerError, KeyringError) as error:
                yield str(error)


def _damaged_rows(place: str, keyring: Keyring, holder: str) -> list[str]:
    from client.errors import WrongKeys
    from client.store import EventStore
    from client.store_consent import Consents

    if holder not in keyring.holders():
        return ["the keyring has no keys of this holder"]
    try:
        with EventStore.open(place, keyring, holder) as store:
            for _ in store.pages():
                pass  # what does not open is noted by the store
            consents = Consents(store.access).damaged()
            return [*sorted(store.quarantined), *(f"consents/{shopper}" for shopper in consents)]
    except WrongKeys as error:
        return [str(error)]


def _print(health: Health, damage: list[str], *, rows_opened: bool) -> None:
    typer.echo(f"{health.database}: revision {health.revision}")
    for name, count in health.rows.items():
        typer.echo(f"  {name:<14} {count:>12,} rows")
    for line in damage:
        typer.echo(f"damaged: {line}")
    if not damage:
        typer.echo(
            "No damage found." if rows_opened else "No damage found; sealed rows were not opened (--keys)."
        )
    if health.revision != health.newest_revision:
        typer.echo(
            f"The newest revision is {health.newest_revision}: make a backup (of a keyring "
            "`fedrank keys backup`), then run `fedrank db migrate`."
        )
