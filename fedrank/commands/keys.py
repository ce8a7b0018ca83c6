"""`fedrank keys`: look at a keyring, rotate its keys, change what protects it, copy it."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrank.exits import DATA
from fedrank.places import HolderOption, KeysOption, RunOption, StoreOption, holders_of, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedrank.places import Places
    from privacy.keyring import Keyring
    from privacy.keyring_status import KeyringStatus
    from privacy.kms import Unlock

HELP = "Look at a keyring, rotate its keys, protect it, copy it."
COPY_WARNING = (
    "This copy opens everything that the keyring opens, and keeps the keys of shoppers who are erased later. Keep it "
    "apart from every copy of a database, and delete it when the next one is made."
)
PROTECTED = (
    "The key-encryption key itself is the same. If a copy of the folder was made before, rotate it too: "
    "fedrank keys rotate --layer kek. Processes that run have to be started again with the new way to open it."
)

UNREADABLE = (
    "rows did not open and stay as they are, with the older keys of their shoppers; look at them with "
    "`fedrank db check`, then restore a backup or erase those shoppers, and rotate again"
)
LOG_IN_USE = (
    "fedrank: another process reads a database, so old copies of rows or keys may lie in its log for now; rotate "
    "again when it has ended"
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


class Layer(StrEnum):
    """A layer of keys: each wraps the one that follows."""

    KEK = "kek"
    WRAPPING = "wrapping"
    DATA = "data"
    ALL = "all"


app = typer.Typer(help=HELP, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Look at a keyring, rotate its keys, protect it, copy it."""


@app.command()
def status(run: RunOption = None, folder: KeysOption = None, as_json: Json = False) -> None:
    """Show what protects a keyring, the versions of its keys, its holders, and rotations to be finished."""
    from privacy.keyring_status import status_of

    with places(run, keys=folder).keyring() as keyring:
        found = status_of(keyring)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"unfinished": found.unfinished}))
    else:
        _print_status(found)


@app.command()
def rotate(
    run: RunOption = None,
    folder: KeysOption = None,
    store: StoreOption = None,
    layer: Annotated[
        Layer,
        typer.Option(help="kek: wraps the holders' secrets; wrapping: wraps data keys; data: seals rows."),
    ] = Layer.ALL,
    holder: HolderOption = None,
    online: Annotated[
        bool, typer.Option("--online", help="Leave the databases to others most of the time; slower.")
    ] = False,
    adopt_store: Annotated[
        bool,
        typer.Option(
            "--adopt-store",
            help="This store is the live one from now on; all other copies of it become unreadable.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Put fresh keys in place of the old ones, which are destroyed; all else may go on meanwhile.

    A rotation that was interrupted is finished by the next one. The layers kek and wrapping wrap again, the layer
    data seals every stored row again.
    """
    from privacy.key_rotation import one_rotation

    told = places(run, store=store, keys=folder)
    with told.keyring() as keyring, one_rotation(keyring.folder):
        holders = holders_of(keyring, holder)
        if layer in (Layer.DATA, Layer.ALL):
            _check_store(keyring, told, holders, adopt=adopt_store)
        done = _rotated(keyring, told, layer, holders, online)
    if as_json:
        typer.echo(json.dumps(done))
    else:
        for name, count in done.items():
            typer.echo(f"{name.replace('_', ' ')}: {count:,}")
        typer.echo("Old copies of what was rotated do not open any more; make new backups.")
    if done.get("logs_not_emptied"):
        typer.echo(LOG_IN_USE, err=True)
    if done.get("rows_unreadable"):
        typer.echo(f"fedrank: {done['rows_unreadable']:,} {UNREADABLE}", err=True)
        raise typer.Exit(DATA)


@app.command()
def protect(
    run: RunOption = None,
    folder: KeysOption = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase to protect the keyring by.")
    ] = False,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Protect it by the passphrase in this private file.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Protect it by this key file, made if it is not there.")
    ] = None,
    unprotected: Annotated[
        bool, typer.Option("--none", help="Leave it in a plain file of mode 0600.")
    ] = False,
) -> None:
    """Set or change what protects the key-encryption key. What protects it now is taken from the environment."""
    from privacy.key_rotation import one_rotation
    from privacy.kms_opening import change_protection

    unlock = _new_protection(passphrase, passphrase_file, key_file, unprotected)
    with places(run, keys=folder).keyring() as keyring, one_rotation(keyring.folder):
        change_protection(keyring.kms, unlock)
        typer.echo(f"Protection: {keyring.kms.protection}.")
    typer.echo(PROTECTED)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to make.")],
    run: RunOption = None,
    folder: KeysOption = None,
    as_json: Json = False,
) -> None:
    """Copy a keyring, whole and of one moment, to a new folder, while others use it."""
    from privacy.keyring_backup import backup_keyring

    source = places(run, keys=folder).keys
    names = backup_keyring(source, target)
    if as_json:
        typer.echo(json.dumps({"source": str(source), "target": str(target), "files": names}))
    else:
        typer.echo(f"{target}: {len(names)} files.")
        typer.echo(COPY_WARNING)


def _check_store(keyring: Keyring, told: Places, holders: Sequence[str], *, adopt: bool) -> None:
    """Refuse to destroy the keys of another store than this one, before anything is rotated."""
    from client import store_identity

    for holder in holders:
        with told.event_store(keyring, holder) as events:
            if adopt:
                store_identity.adopt(events.access)
            store_identity.check_live(events.access)


def _rotated(
    keyring: Keyring, told: Places, layer: Layer, holders: Sequence[str], online: bool
) -> dict[str, int]:
    from client.store_rhythm import PACE as STORE_PACE
    from client.store_rotation import reencrypt
    from privacy.key_rotation import PACE, rotate_kek, rotate_wrapping

    done = {}
    if layer in (Layer.KEK, Layer.ALL):
        done["files_wrapped"] = rotate_kek(keyring)
    if layer in (Layer.WRAPPING, Layer.ALL):
        pace = PACE if online else 0.0
        counts = [rotate_wrapping(keyring, holder, pace=pace) for holder in holders]
        done["data_keys_wrapped"] = sum(counts)
    if layer in (Layer.DATA, Layer.ALL):
        found = []
        for holder in holders:
            with told.event_store(keyring, holder) as events:
                found.append(reencrypt(events.access, pace=STORE_PACE if online else 0.0))
        done["rows_sealed"] = sum(one.rows for one in found)
        done["old_data_keys_destroyed"] = sum(one.keys_destroyed for one in found)
        done["logs_not_emptied"] = sum(not one.old_copies_gone for one in found)
        done["rows_unreadable"] = sum(one.unreadable for one in found)
    return done


def _new_protection(
    passphrase: bool, passphrase_file: Path | None, key_file: Path | None, unprotected: bool
) -> Unlock:
    from privacy.kms import KeyFile, Passphrase, Unprotected, read_secret

    if sum([passphrase, passphrase_file is not None, key_file is not None, unprotected]) != 1:
        raise typer.BadParameter("give one of --passphrase, --passphrase-file, --key-file and --none")
    if unprotected:
        return Unprotected()
    if key_file is not None:
        _make_key_file(key_file)
        return KeyFile(path=key_file)
    if passphrase_file is not None:
        return Passphrase(text=read_secret(passphrase_file, "--passphrase-file"))
    return Passphrase(text=typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True))


def _make_key_file(path: Path) -> None:
    import secrets

    from privacy.cipher import KEY_BYTES
    from privacy.key_files import create_private

    if not path.exists():
        create_private(path, secrets.token_bytes(KEY_BYTES))
        typer.echo(f"{path}: a new key file. Without it the keyring cannot be opened; keep a copy elsewhere.")


def _print_status(found: KeyringStatus) -> None:
    from rich.console import Console
    from rich.table import Table

    versions = ", ".join(map(str, found.kek_versions))
    typer.echo(
        f"Keyring {found.folder}\nProtection: {found.protection}\nKey-encryption key: version {versions}"
    )
    table = Table("holder", "wrapping secrets", "shoppers", "data keys", "generation", "older data keys")
    for one in found.holders:
        table.add_row(*(str(value) for value in asdict(one).values()))
    Console().print(table)
    for name in found.unfinished:
        typer.echo(
            f"Unfinished: the rotation of {name}; run fedrank keys rotate again, for layer data with its store."
        )
