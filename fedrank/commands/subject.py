"""`fedrank subject`: a shopper's rights to a copy and to erasure, at every holder of a keyring."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from fedrank.exits import UNREACHABLE
from fedrank.places import (
    HolderOption,
    KeysOption,
    LedgerOption,
    Places,
    RunOption,
    StoreOption,
    holders_of,
    places,
)
from fedrank.shopper_ids import id_given

if TYPE_CHECKING:
    from privacy.keyring import Keyring

app = typer.Typer(
    help="A shopper's rights: a copy of everything held, erasure with a receipt.", no_args_is_help=True
)

DEFAULT_DELTA = 1e-6
LOG_IN_USE = (
    "fedrank: the shopper is erased, but another process reads a database, whose log could not be emptied; "
    "erase again, with another receipt, when it has ended"
)

ShopperId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The shopper's id; `-` reads it from standard input (to its end), out of sight of others.",
    ),
]
Receipt = Annotated[Path, typer.Option(help="New file for the signed receipts.")]
Out = Annotated[Path | None, typer.Option(help="New file for the copy; default: standard output.")]
Delta = Annotated[
    float | None, typer.Option(help=f"Delta of the spent epsilon; default: the run's, or {DEFAULT_DELTA:g}.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command()
def export(
    shopper: ShopperId,
    run: RunOption = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    ledger: LedgerOption = None,
    holder: HolderOption = None,
    delta: Delta = None,
    out: Out = None,
) -> None:
    """Write everything that is held about a shopper as one JSON object: events, consents, spent budget."""
    found, name = places(run, store, keys, ledger), id_given(shopper)
    with found.keyring() as keyring:
        copies = _copies(found, keyring, name, holder, delta)
    text = json.dumps({"format": "fedrank subject export", "version": 1, "holders": copies}, indent=2)
    if out is None:
        typer.echo(text)
    else:
        with _new_file(out, "--out") as file:
            file.write(text + "\n")
        typer.echo(f"Wrote {out}", err=True)


@app.command()
def erase(
    shopper: ShopperId,
    receipt: Receipt,
    run: RunOption = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    holder: HolderOption = None,
    yes: Yes = False,
) -> None:
    """Destroy a shopper's keys, events, consents and everything derived, and write a signed receipt.

    What the shopper has spent of the privacy budget stays in the ledger, under a pseudonym; models that are released
    stay as they are. Erasing again finishes what was interrupted.
    """
    from client.receipts import erase_with_receipt

    found, name = places(run, store, keys), id_given(shopper)
    receipts = []
    with found.keyring() as keyring, _new_file(receipt, "--receipt") as file:
        wanted = holders_of(keyring, holder)
        if not yes:
            typer.confirm("Erase everything of this shopper? This cannot be undone", abort=True, err=True)
        try:
            for one in wanted:
                with found.event_store(keyring, one) as events:
                    receipts.append(erase_with_receipt(events, name))
        finally:
            # What was erased before an error has its receipt too.
            if receipts:
                file.write(json.dumps(receipts, indent=2) + "\n")
    typer.echo(_told(receipts))
    if not all(one["verified"]["log_emptied"] for one in receipts):
        typer.echo(LOG_IN_USE, err=True)
        raise typer.Exit(UNREACHABLE)


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="File that `fedrank subject erase --receipt` wrote.")],
    run: RunOption = None,
    keys: KeysOption = None,
) -> None:
    """Check that receipts are whole; with the keyring (--run or --keys) also that its holders signed them."""
    from client.receipts import check_receipt

    receipts = _read_receipts(receipt)
    own = _public_keys(run, keys, receipts)
    for one in receipts:
        check_receipt(one, own.get(one["holder"]))
        known = (
            "this keyring's key"
            if own
            else f"key {one['public_key']}; compare it with what the holder publishes"
        )
        typer.echo(f"valid: {one['holder']}, {one['time']}, signed by {known}")


def _copies(
    found: Places, keyring: Keyring, name: str, holder: str | None, delta: float | None
) -> list[dict[str, Any]]:
    from client.rights import export_of
    from privacy.ledger import Ledger

    stated = delta or found.reported("privacy", "delta") or DEFAULT_DELTA
    place = found.ledger_if_any
    ledger = None if place is None else Ledger.open(place, keyring, create=False)
    copies = []
    try:
        for one in holders_of(keyring, holder):
            with found.event_store(keyring, one) as events:
                copies.append(export_of(events, name, ledger, float(stated)))
    finally:
        if ledger is not None:
            ledger.close()
    return copies


def _read_receipts(file: Path) -> list[dict[str, Any]]:
    from client.receipts import InvalidReceipt

    try:
        receipts = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise InvalidReceipt(f"{file} cannot be read as JSON; give the file of --receipt") from None
    if not isinstance(receipts, list) or not receipts or not all(map(_looks_like_one, receipts)):
        raise InvalidReceipt(f"{file} holds no list of receipts; give the file of --receipt")
    return receipts


def _looks_like_one(receipt: object) -> bool:
    """Tell whether what is printed of a receipt is there and can be printed."""
    texts = (
        [receipt.get(name) for name in ("holder", "time", "public_key")] if isinstance(receipt, dict) else []
    )
    return bool(texts) and all(isinstance(text, str) and text.isprintable() for text in texts)


def _public_keys(run: Path | None, keys: Path | None, receipts: list[dict[str, Any]]) -> dict[str, bytes]:
    """Return the keyring's own public key for each holder that the receipts name, if a keyring was named."""
    if run is None and keys is None:
        return {}
    with places(run, keys=keys).keyring() as keyring:
        named = [holders_of(keyring, one["holder"])[0] for one in receipts]
        return {name: keyring.holder(name).signer.public_key for name in named}


def _told(receipts: list[dict[str, Any]]) -> str:
    lines = []
    for one in receipts:
        rows = sum(one["rows_destroyed"].values())
        found = (
            "nothing was there"
            if one["found_nothing"]
            else f"{rows} rows, {one['keys_destroyed']} keys destroyed"
        )
        lines.append(f"{one['holder']}: {found}; {one['verified']['rows_left']} left")
    return "\n".join(lines)


@contextmanager
def _new_file(file: Path, option: str) -> Iterator[TextIO]:
    """Make a file that only its owner may read, never over another; it goes again if nothing is written.

    Raises `typer.BadParameter` if it cannot be made.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise typer.BadParameter(
            f"{file} cannot be made ({error.strerror}); name a new file in a folder that is there",
            param_hint=option,
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        try:
            yield written
        finally:
            written.flush()
            os.fsync(descriptor)
            if not written.tell():
                file.unlink()
